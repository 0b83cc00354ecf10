package lookaside.interop;

import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;

/** Counts calls by the token they brought. */
final class Calls {
  private long calls;
  private long taken;
  private long withoutToken;
  private final Map<String, Long> tokens = new TreeMap<>();

  synchronized void add(String token) {
    calls++;
    if (token == null) {
      withoutToken++;
    } else {
      tokens.merge(token, 1L, Long::sum);
    }
  }

  /** Calls since this was last asked. */
  synchronized long takeNew() {
    long fresh = calls - taken;
    taken = calls;
    return fresh;
  }

  /** One line of JSON; what is in a token needs no escape. */
  synchronized String counts() {
    String byToken =
        tokens.entrySet().stream()
            .map(count -> "\"" + count.getKey() + "\":" + count.getValue())
            .collect(Collectors.joining(",", "{", "}"));
    return "{\"calls\":%d,\"without_token\":%d,\"tokens\":%s}"
        .formatted(calls, withoutToken, byToken);
  }
}
