package lookaside.example;

import com.google.protobuf.StringValue;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.NameResolverRegistry;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ClientCalls;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * Calls a service through lookaside with grpc-java as it comes.
 *
 * <p>Each second it makes 100 calls and prints which backend answered how many.
 */
public final class Client {
  private static final int CALLS_PER_SECOND = 100;

  // With your own generated stubs: GreeterGrpc.newBlockingStub(channel). StringValue has the wire
  // form of HelloRequest and HelloReply, so this file needs none.
  private static final MethodDescriptor<StringValue, StringValue> SAY_HELLO =
      MethodDescriptor.<StringValue, StringValue>newBuilder()
          .setType(MethodDescriptor.MethodType.UNARY)
          .setFullMethodName("helloworld.Greeter/SayHello")
          .setRequestMarshaller(ProtoUtils.marshaller(StringValue.getDefaultInstance()))
          .setResponseMarshaller(ProtoUtils.marshaller(StringValue.getDefaultInstance()))
          .build();

  private String service = "greeter.example.com";
  private InetSocketAddress balancer;
  private int seconds = 10;

  public static void main(String[] args) throws InterruptedException {
    Client client = new Client();
    for (int i = 0; i < args.length; i++) {
      switch (args[i]) {
        case "--balancer" -> client.balancer = address(args[++i]);
        case "--seconds" -> client.seconds = Integer.parseInt(args[++i]);
        default -> client.service = args[i];
      }
    }
    client.run();
  }

  private void run() throws InterruptedException {
    // With grpc-grpclb on the class path, "dns:///service" looks for balancers by SRV at the name
    // servers of the machine. --balancer goes without DNS.
    String target = "dns:///" + service;
    if (balancer != null) {
      NameResolverRegistry.getDefaultRegistry()
          .register(new BalancerResolver(List.of(balancer), "lb." + service));
      target = BalancerResolver.SCHEME + ":///" + service;
    }
    ManagedChannel channel =
        Grpc.newChannelBuilder(target, InsecureChannelCredentials.create())
            // Balancer addresses alone do not select it.
            .defaultLoadBalancingPolicy("grpclb")
            .build();
    for (int i = 0; i < seconds; i++) {
      long started = System.nanoTime();
      Map<String, Integer> answers = new TreeMap<>();
      for (int call = 0; call < CALLS_PER_SECOND; call++) {
        answers.merge(hello(channel), 1, Integer::sum);
      }
      System.out.println(
          answers.entrySet().stream()
              .map(answer -> answer.getValue() + " × " + answer.getKey())
              .collect(Collectors.joining(", ")));
      TimeUnit.NANOSECONDS.sleep(started + TimeUnit.SECONDS.toNanos(1) - System.nanoTime());
    }
    channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
  }

  /** Makes one call; what came of it, in words. */
  private static String hello(Channel channel) {
    try {
      return ClientCalls.blockingUnaryCall(
              channel,
              SAY_HELLO,
              // The first call of a JVM is slow.
              CallOptions.DEFAULT.withDeadlineAfter(20, TimeUnit.SECONDS),
              StringValue.of("java"))
          .getValue();
    } catch (StatusRuntimeException error) {
      return error.getStatus().getCode() + ": " + error.getStatus().getDescription();
    }
  }

  private static InetSocketAddress address(String text) {
    int colon = text.lastIndexOf(':');
    return new InetSocketAddress(
        text.substring(0, colon), Integer.parseInt(text.substring(colon + 1)));
  }
}
