package lookaside.example;

import io.grpc.Attributes;
import io.grpc.EquivalentAddressGroup;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.StatusOr;
import io.grpc.grpclb.GrpclbConstants;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.List;

/**
 * Resolves {@code balancer:///service} to balancers whose addresses it is given.
 *
 * <p>grpc-java's own DNS resolver finds balancers by SRV, but only at the name servers of the
 * machine: it cannot be told of another one, as Python and Go can. So where SRV records are in the
 * machine's DNS, a Java program does not need this class.
 */
public final class BalancerResolver extends NameResolverProvider {
  /** The scheme of its targets. */
  public static final String SCHEME = "balancer";

  private final List<InetSocketAddress> balancers;
  private final String balancerName;

  /**
   * @param balancers where BalanceLoad is served
   * @param balancerName the name that SRV would have given: the authority of BalanceLoad, and the
   *     name that a balancer's certificate must be for
   */
  public BalancerResolver(List<InetSocketAddress> balancers, String balancerName) {
    this.balancers = balancers;
    this.balancerName = balancerName;
  }

  @Override
  protected boolean isAvailable() {
    return true;
  }

  @Override
  protected int priority() {
    return 5;
  }

  @Override
  public String getDefaultScheme() {
    return SCHEME;
  }

  @Override
  public NameResolver newNameResolver(URI target, NameResolver.Args args) {
    return new Resolver(target.getPath().substring(1));
  }

  private final class Resolver extends NameResolver {
    private final String service;

    Resolver(String service) {
      this.service = service;
    }

    @Override
    public String getServiceAuthority() {
      return service;
    }

    @Override
    public void start(Listener2 listener) {
      // Each group needs the name, or grpclb fails an assertion.
      Attributes named =
          Attributes.newBuilder()
              .set(GrpclbConstants.ATTR_LB_ADDR_AUTHORITY, balancerName)
              .build();
      List<EquivalentAddressGroup> groups =
          balancers.stream().map(address -> new EquivalentAddressGroup(address, named)).toList();
      listener.onResult(
          ResolutionResult.newBuilder()
              // Backends to fall back to would stand here.
              .setAddressesOrError(StatusOr.fromValue(List.of()))
              .setAttributes(
                  Attributes.newBuilder().set(GrpclbConstants.ATTR_LB_ADDRS, groups).build())
              .build());
    }

    // No refresh(): grpclb calls it whenever its stream ends, and an answer makes it try again at
    // once, without backoff. A resolver that repeats itself there causes thousands of streams a
    // second. One that asks a real source should answer at most every few seconds.

    @Override
    public void shutdown() {}
  }
}
