package lookaside.interop;

import com.google.protobuf.StringValue;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Server;
import io.grpc.ServerBuilder;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.ServerServiceDefinition;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.services.MetricRecorder;
import io.grpc.stub.ServerCalls;
import io.grpc.xds.orca.OrcaServiceImpl;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/**
 * A Greeter of grpc-java that reports its load by ORCA, with grpc-java's own MetricRecorder and
 * OrcaServiceImpl. Nothing here knows of lookaside. One process is one backend; it obeys the lines
 * on standard input (see ../../README.md).
 */
public final class Backend {
  private static final Metadata.Key<String> LB_TOKEN =
      Metadata.Key.of("lb-token", Metadata.ASCII_STRING_MARSHALLER);

  // StringValue has the wire form of HelloRequest and of HelloReply: one string in field 1. So no
  // generated stubs are needed.
  private static final MethodDescriptor<StringValue, StringValue> SAY_HELLO =
      MethodDescriptor.<StringValue, StringValue>newBuilder()
          .setType(MethodDescriptor.MethodType.UNARY)
          .setFullMethodName("helloworld.Greeter/SayHello")
          .setRequestMarshaller(ProtoUtils.marshaller(StringValue.getDefaultInstance()))
          .setResponseMarshaller(ProtoUtils.marshaller(StringValue.getDefaultInstance()))
          .build();

  private final Calls calls = new Calls();
  private final HealthStatusManager health = new HealthStatusManager();
  private final ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
  private String listen;
  private double capacity = 100; // calls a second
  private String report = "orca";

  public static void main(String[] args) throws Exception {
    new Backend().run(args);
  }

  private void run(String[] args) throws Exception {
    for (int i = 0; i < args.length; i += 2) {
      flag(args[i], args[i + 1]);
    }
    int colon = listen.lastIndexOf(':');
    InetSocketAddress address =
        new InetSocketAddress(
            listen.substring(0, colon), Integer.parseInt(listen.substring(colon + 1)));
    ServerBuilder<?> builder =
        NettyServerBuilder.forAddress(address, InsecureServerCredentials.create())
            .addService(greeter())
            .addService(health.getHealthService());
    if (report.equals("orca")) {
      MetricRecorder recorder = MetricRecorder.newInstance();
      builder.addService(
          OrcaServiceImpl.createService(timer, recorder, 1, TimeUnit.SECONDS));
      record(recorder);
    }
    Server server = builder.build().start();
    System.out.println("{\"listening\":\"" + listen + "\"}");
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      System.out.println(obey(line));
    }
    server.shutdownNow();
    System.exit(0);
  }

  private void flag(String name, String value) {
    switch (name) {
      case "--listen" -> listen = value;
      case "--capacity" -> capacity = Double.parseDouble(value);
      case "--report" -> report = value;
      default -> throw new IllegalArgumentException("unknown flag " + name);
    }
  }

  /** Keeps the recorder at what the last second was: only the program knows rates. */
  private void record(MetricRecorder recorder) {
    timer.scheduleAtFixedRate(
        () -> {
          long qps = calls.takeNew();
          recorder.setQpsMetric(qps);
          recorder.setApplicationUtilizationMetric(qps / capacity);
        },
        1,
        1,
        TimeUnit.SECONDS);
  }

  private String obey(String line) {
    switch (line) {
      case "counts" -> {
        return calls.counts();
      }
      case "health serving" -> health.setStatus("", ServingStatus.SERVING);
      case "health not_serving" -> health.setStatus("", ServingStatus.NOT_SERVING);
      default -> {
        return "{\"error\":\"unknown command\"}";
      }
    }
    return "{}";
  }

  private ServerServiceDefinition greeter() {
    StringValue reply = StringValue.of(listen);
    ServerServiceDefinition service =
        ServerServiceDefinition.builder("helloworld.Greeter")
            .addMethod(
                SAY_HELLO,
                ServerCalls.asyncUnaryCall(
                    (request, answer) -> {
                      answer.onNext(reply);
                      answer.onCompleted();
                    }))
            .build();
    return ServerInterceptors.intercept(
        service,
        new ServerInterceptor() {
          @Override
          public <A, B> ServerCall.Listener<A> interceptCall(
              ServerCall<A, B> call, Metadata headers, ServerCallHandler<A, B> next) {
            calls.add(headers.get(LB_TOKEN));
            return next.startCall(call, headers);
          }
        });
  }
}
