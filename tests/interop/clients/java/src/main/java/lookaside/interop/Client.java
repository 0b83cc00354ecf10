package lookaside.interop;

import com.google.protobuf.StringValue;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ClientCalls;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/** The RPCs over one channel. */
final class Client {
  private static final int LOAD_WORKERS = 4;

  // StringValue has the wire form of HelloRequest and of HelloReply: one string in field 1. So no
  // generated stubs are needed.
  private static final MethodDescriptor<StringValue, StringValue> SAY_HELLO =
      MethodDescriptor.<StringValue, StringValue>newBuilder()
          .setType(MethodDescriptor.MethodType.UNARY)
          .setFullMethodName("helloworld.Greeter/SayHello")
          .setRequestMarshaller(ProtoUtils.marshaller(StringValue.getDefaultInstance()))
          .setResponseMarshaller(ProtoUtils.marshaller(StringValue.getDefaultInstance()))
          .build();

  private final Channel channel;
  private final long deadlineMs;
  private ScheduledExecutorService load;
  private Tally loadTally;

  Client(Channel channel, long deadlineMs) {
    this.channel = channel;
    this.deadlineMs = deadlineMs;
  }

  private void rpc(Tally tally, boolean waitForReady) {
    CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(deadlineMs, TimeUnit.MILLISECONDS);
    if (waitForReady) {
      options = options.withWaitForReady();
    }
    try {
      tally.answered(
          ClientCalls.blockingUnaryCall(channel, SAY_HELLO, options, StringValue.of("interop"))
              .getValue());
    } catch (StatusRuntimeException error) {
      tally.failed(error.getStatus());
    }
  }

  String call(int count, int concurrency, boolean waitForReady) throws Exception {
    Tally tally = new Tally();
    ExecutorService pool = Executors.newFixedThreadPool(concurrency);
    try {
      List<Future<?>> calls = new ArrayList<>();
      for (int i = 0; i < count; i++) {
        calls.add(pool.submit(() -> rpc(tally, waitForReady)));
      }
      for (Future<?> call : calls) {
        call.get();
      }
    } finally {
      pool.shutdown();
    }
    return tally.take();
  }

  void startLoad(double perSecond) {
    load = Executors.newScheduledThreadPool(LOAD_WORKERS);
    loadTally = new Tally();
    long pauseMicros = (long) (LOAD_WORKERS / perSecond * 1_000_000);
    Tally tally = loadTally;
    for (int i = 0; i < LOAD_WORKERS; i++) {
      load.scheduleAtFixedRate(
          () -> rpc(tally, false), pauseMicros * i / LOAD_WORKERS, pauseMicros, TimeUnit.MICROSECONDS);
    }
  }

  String takeLoad() {
    return loadTally.take();
  }

  String stopLoad() throws InterruptedException {
    load.shutdown();
    load.awaitTermination(2 * deadlineMs, TimeUnit.MILLISECONDS);
    return loadTally.take();
  }
}
