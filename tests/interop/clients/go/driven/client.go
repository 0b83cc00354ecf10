package driven

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	method      = "/helloworld.Greeter/SayHello"
	loadWorkers = 4
)

// client is one channel and the RPCs over it.
type client struct {
	conn     *grpc.ClientConn
	deadline time.Duration
	load     *load
}

// rpc makes one call. StringValue has the wire form of HelloRequest and of
// HelloReply, one string in field 1, so no generated stubs are needed.
func (c *client) rpc(t *tally, waitForReady bool) {
	ctx, cancel := context.WithTimeout(context.Background(), c.deadline)
	defer cancel()
	var reply wrapperspb.StringValue
	err := c.conn.Invoke(ctx, method, wrapperspb.String("interop"), &reply, grpc.WaitForReady(waitForReady))
	if err != nil {
		t.failed(err)
		return
	}
	t.answered(reply.Value)
}

func (c *client) call(count, concurrency int, waitForReady bool) counts {
	t := newTally()
	due := make(chan struct{})
	var workers sync.WaitGroup
	for range concurrency {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for range due {
				c.rpc(t, waitForReady)
			}
		}()
	}
	for range count {
		due <- struct{}{}
	}
	close(due)
	workers.Wait()
	return t.take()
}

// load is RPCs one after another on a few goroutines, until stopped.
type load struct {
	tally   *tally
	over    chan struct{}
	workers sync.WaitGroup
}

func (c *client) startLoad(perSecond float64) {
	l := &load{tally: newTally(), over: make(chan struct{})}
	pause := time.Duration(loadWorkers / perSecond * float64(time.Second))
	for range loadWorkers {
		l.workers.Add(1)
		go func() {
			defer l.workers.Done()
			due := time.NewTicker(pause)
			defer due.Stop()
			for {
				select {
				case <-l.over:
					return
				case <-due.C:
					c.rpc(l.tally, false)
				}
			}
		}()
	}
	c.load = l
}

func (c *client) stopLoad() counts {
	close(c.load.over)
	c.load.workers.Wait()
	taken := c.load.tally.take()
	c.load = nil
	return taken
}
