package lookaside.interop;

import io.grpc.Status;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;

/** Counts what became of RPCs. */
final class Tally {
  private final Map<String, Integer> backends = new TreeMap<>();
  private final Map<String, Integer> statuses = new TreeMap<>();
  private final Map<String, Integer> messages = new TreeMap<>();

  synchronized void answered(String backend) {
    backends.merge(backend, 1, Integer::sum);
    statuses.merge("OK", 1, Integer::sum);
  }

  synchronized void failed(Status status) {
    statuses.merge(status.getCode().name(), 1, Integer::sum);
    messages.merge(status.getCode() + ": " + status.getDescription(), 1, Integer::sum);
  }

  /** One line of JSON; empties the tally. */
  synchronized String take() {
    String line =
        "{\"backends\":%s,\"statuses\":%s,\"messages\":%s}"
            .formatted(json(backends), json(statuses), json(messages));
    backends.clear();
    statuses.clear();
    messages.clear();
    return line;
  }

  private static String json(Map<String, Integer> counts) {
    return counts.entrySet().stream()
        .map(count -> "\"" + escape(count.getKey()) + "\":" + count.getValue())
        .collect(Collectors.joining(",", "{", "}"));
  }

  private static String escape(String text) {
    return text.codePoints()
        .mapToObj(
            c ->
                c < 0x20 || c == '"' || c == '\\'
                    ? "\\u%04x".formatted(c)
                    : Character.toString(c))
        .collect(Collectors.joining());
  }
}
