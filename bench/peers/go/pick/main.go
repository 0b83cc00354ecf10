// What a pick costs in grpc-go's grpclb.
//
// Its pickers are not exported, so they are taken where the policy hands them
// over: a policy of our own wraps grpclb's and keeps every picker that goes by.
// Everything else is as in any client: a channel, connections to a balancer and
// to the backends of its list.
//
//	pick BALANCER NAME,ENTRIES,DROPS,BACKENDS ...
//
// says "ready" once every list's backends are connected to; then, for each line
// with a number of picks on stdin, one row of JSON per list and number of threads.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/grpclb"
	"google.golang.org/grpc/balancer/grpclb/state"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// A list of the balancer, and the picker for it.
type list struct {
	name     string
	entries  int
	drops    bool
	backends int
	picker   atomic.Pointer[balancer.Picker]
}

// A grpclb that keeps its newest picker in its list.
type kept struct{ list *list }

func (k kept) Name() string { return "kept_" + k.list.name }

func (k kept) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return balancer.Get("grpclb").Build(&keeper{ClientConn: cc, list: k.list}, opts)
}

type keeper struct {
	balancer.ClientConn
	list *list
}

func (k *keeper) UpdateState(s balancer.State) {
	if s.ConnectivityState == connectivity.Ready {
		k.list.picker.Store(&s.Picker)
	}
	k.ClientConn.UpdateState(s)
}

func parse(text string) *list {
	fields := strings.Split(text, ",")
	if len(fields) != 4 {
		log.Fatalf("%q is not NAME,ENTRIES,DROPS,BACKENDS", text)
	}
	l := &list{name: fields[0], drops: fields[2] == "true"}
	var err error
	if l.entries, err = strconv.Atoi(fields[1]); err != nil {
		log.Fatal(err)
	}
	if l.backends, err = strconv.Atoi(fields[3]); err != nil {
		log.Fatal(err)
	}
	return l
}

func (l *list) connect(balancerAddr string) *grpc.ClientConn {
	balancer.Register(kept{l})
	r := manual.NewBuilderWithScheme("bench-" + l.name)
	r.InitialState(state.Set(resolver.State{}, &state.State{
		BalancerAddresses: []resolver.Address{{Addr: balancerAddr, ServerName: "balancer"}},
	}))
	config := fmt.Sprintf(`{"loadBalancingConfig":[{"kept_%s":{}}]}`, l.name)
	cc, err := grpc.NewClient(r.Scheme()+":///"+l.name,
		grpc.WithResolvers(r),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(config))
	if err != nil {
		log.Fatal(err)
	}
	cc.Connect()
	return cc
}

// Waits until picks go to all backends.
func (l *list) wait() {
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			log.Fatalf("%s has not connected", l.name)
		}
		picker := l.picker.Load()
		if picker == nil {
			continue
		}
		seen := map[balancer.SubConn]bool{}
		for range 2 * l.entries {
			if result, err := (*picker).Pick(balancer.PickInfo{}); err == nil {
				seen[result.SubConn] = true
			}
		}
		if len(seen) == l.backends {
			return
		}
	}
}

// What the compiler must not do without.
var sink atomic.Pointer[balancer.PickResult]

// Picks between two looks at the clock, and parts of them after each of which the
// other thread is told.
const (
	chunk = 1000
	parts = 10
)

// How many parts a thread has behind it, on cache lines of its own.
type progress struct {
	n atomic.Uint64
	_ [120]byte
}

// The nanoseconds that a thread spends on a pick: the median over chunks, of two
// threads over those in which both got on about as far, as for our own client.
func (l *list) measure(threads, picks int) float64 {
	picker := *l.picker.Load()
	info := balancer.PickInfo{FullMethodName: "/helloworld.Greeter/SayHello"}
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	behind := make([]progress, threads)
	took := make([][]float64, threads)
	ready.Add(threads)
	done.Add(threads)
	for thread := range threads {
		go func() {
			defer done.Done()
			other := &behind[(thread+1)%threads].n
			var last balancer.PickResult
			for range chunk {
				last, _ = picker.Pick(info)
			}
			ready.Done()
			<-start
			for range picks / chunk {
				before := other.Load()
				started := time.Now()
				for range parts {
					for range chunk / parts {
						last, _ = picker.Pick(info)
					}
					behind[thread].n.Add(1)
				}
				ns := float64(time.Since(started).Nanoseconds()) / chunk
				wentBy := other.Load() - before
				if threads == 1 || (wentBy >= parts/3 && wentBy <= parts*3) {
					took[thread] = append(took[thread], ns)
				}
			}
			sink.Store(&last)
		}()
	}
	ready.Wait()
	runtime.GC()
	close(start)
	done.Wait()
	all := slices.Sorted(slices.Values(slices.Concat(took...)))
	if len(all) == 0 {
		return -1
	}
	return all[len(all)/2]
}

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: pick BALANCER NAME,ENTRIES,DROPS,BACKENDS ...")
	}
	var lists []*list
	for _, text := range os.Args[2:] {
		l := parse(text)
		defer l.connect(os.Args[1]).Close()
		l.wait()
		lists = append(lists, l)
	}
	fmt.Println("ready")
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		picks, err := strconv.Atoi(in.Text())
		if err != nil {
			log.Fatal(err)
		}
		for _, l := range lists {
			for _, threads := range []int{1, 2} {
				row := map[string]any{
					"who": "grpc-go", "policy": "grpclb", "drops": l.drops,
					"entries": l.entries, "threads": threads,
					"ns": l.measure(threads, picks),
				}
				if err := out.Encode(row); err != nil {
					log.Fatal(err)
				}
			}
		}
	}
}
