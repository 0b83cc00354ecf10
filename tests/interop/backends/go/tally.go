package main

import "sync"

// tally counts calls by the token they brought.
type tally struct {
	mu      sync.Mutex
	calls   int
	without int
	tokens  map[string]int
}

func (t *tally) add(tokens []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls++
	if len(tokens) == 0 {
		t.without++
		return
	}
	t.tokens[tokens[0]]++
}

func (t *tally) total() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls
}

func (t *tally) counts() any {
	t.mu.Lock()
	defer t.mu.Unlock()
	tokens := map[string]int{}
	for token, calls := range t.tokens {
		tokens[token] = calls
	}
	return map[string]any{"calls": t.calls, "without_token": t.without, "tokens": tokens}
}
