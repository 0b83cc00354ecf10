package driven

import (
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Counts of what became of RPCs, as they are printed.
type counts struct {
	Backends map[string]int `json:"backends"`
	Statuses map[string]int `json:"statuses"`
	Messages map[string]int `json:"messages"`
}

func newCounts() counts {
	return counts{map[string]int{}, map[string]int{}, map[string]int{}}
}

// tally counts RPCs of many goroutines; take empties it.
type tally struct {
	mu     sync.Mutex
	counts counts
}

func newTally() *tally { return &tally{counts: newCounts()} }

func (t *tally) answered(backend string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Backends[backend]++
	t.counts.Statuses["OK"]++
}

func (t *tally) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	code := name(status.Code(err))
	t.counts.Statuses[code]++
	t.counts.Messages[fmt.Sprintf("%s: %s", code, status.Convert(err).Message())]++
}

func (t *tally) take() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.counts
	t.counts = newCounts()
	return taken
}

// name spells a code as the other languages do; those that a balancer can cause
// are enough.
func name(code codes.Code) string {
	switch code {
	case codes.Unavailable:
		return "UNAVAILABLE"
	case codes.DeadlineExceeded:
		return "DEADLINE_EXCEEDED"
	case codes.Internal:
		return "INTERNAL"
	case codes.Canceled:
		return "CANCELLED"
	default:
		return code.String()
	}
}
