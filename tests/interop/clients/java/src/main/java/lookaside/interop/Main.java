package lookaside.interop;

import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.NameResolverRegistry;
import io.grpc.TlsChannelCredentials;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import lookaside.example.BalancerResolver;

/** A gRPC channel of grpc-java with its grpclb, driven line by line (see ../README.md). */
public final class Main {
  private String service;
  private final List<InetSocketAddress> balancers = new ArrayList<>();
  private String balancerName = "";
  private String ca;
  private double deadline = 5;

  public static void main(String[] args) throws Exception {
    new Main().run(args);
  }

  private void run(String[] args) throws Exception {
    for (int i = 0; i < args.length; i += 2) {
      flag(args[i], args[i + 1]);
    }
    NameResolverRegistry.getDefaultRegistry()
        .register(new BalancerResolver(balancers, balancerName));
    ManagedChannel channel =
        Grpc.newChannelBuilder(BalancerResolver.SCHEME + ":///" + service, credentials())
            .defaultLoadBalancingPolicy("grpclb")
            .build();
    Client client = new Client(channel, (long) (deadline * 1000));
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      if (line.equals("quit")) {
        break;
      }
      System.out.println(obey(client, line.split(" ")));
    }
    channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    System.exit(0);
  }

  private static String obey(Client client, String[] words) throws Exception {
    String verb = words[0].equals("load") ? "load " + words[1] : words[0];
    switch (verb) {
      case "call":
        boolean waitForReady = words.length > 3 && words[3].equals("wait");
        return client.call(
            Integer.parseInt(words[1]), Integer.parseInt(words[2]), waitForReady);
      case "load start":
        client.startLoad(Double.parseDouble(words[2]));
        return "{}";
      case "load take":
        return client.takeLoad();
      case "load stop":
        return client.stopLoad();
      default:
        return "{\"error\":\"unknown command\"}";
    }
  }

  private void flag(String name, String value) {
    switch (name) {
      case "--service" -> service = value;
      case "--balancer" -> balancers.add(address(value));
      case "--balancer-name" -> balancerName = value;
      case "--ca" -> ca = value;
      case "--deadline" -> deadline = Double.parseDouble(value);
      default -> throw new IllegalArgumentException("unknown flag " + name);
    }
  }

  private ChannelCredentials credentials() throws IOException {
    return ca == null
        ? InsecureChannelCredentials.create()
        : TlsChannelCredentials.newBuilder().trustManager(new File(ca)).build();
  }

  private static InetSocketAddress address(String text) {
    int colon = text.lastIndexOf(':');
    return new InetSocketAddress(
        text.substring(0, colon), Integer.parseInt(text.substring(colon + 1)));
  }
}
