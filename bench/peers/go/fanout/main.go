// What one writes first in Go: a grpclb server of sixty lines on grpc-go, whose
// backends come from a file (one "ip:port" a line, watched by fsnotify), from
// backends that register (POST /register), or from memory.
//
//	fanout -addr ADDR -entries N -by memory|file|registration
//
// says "listening ADDR" and then does what stdin says, as bench/src/serve/mod.rs
// describes. The server is the part above the line; below it is what measures it.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	lb "google.golang.org/grpc/balancer/grpclb/grpc_lb_v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

type balancer struct {
	lb.UnimplementedLoadBalancerServer
	mu       sync.Mutex
	backends []netip.AddrPort
	newest   *lb.LoadBalanceResponse
	changed  chan struct{}
}

func (b *balancer) set(update func([]netip.AddrPort) []netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = update(b.backends)
	list := &lb.ServerList{}
	for _, addr := range b.backends {
		id := sha256.Sum256([]byte(addr.String()))
		list.Servers = append(list.Servers, &lb.Server{
			IpAddress:        addr.Addr().AsSlice(),
			Port:             int32(addr.Port()),
			LoadBalanceToken: base64.RawURLEncoding.EncodeToString(id[:6]),
		})
	}
	b.newest = &lb.LoadBalanceResponse{LoadBalanceResponseType: &lb.LoadBalanceResponse_ServerList{ServerList: list}}
	if b.changed != nil {
		close(b.changed)
	}
	b.changed = make(chan struct{})
}

func (b *balancer) BalanceLoad(stream lb.LoadBalancer_BalanceLoadServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	initial := &lb.InitialLoadBalanceResponse{ClientStatsReportInterval: durationpb.New(5 * time.Second)}
	err := stream.Send(&lb.LoadBalanceResponse{LoadBalanceResponseType: &lb.LoadBalanceResponse_InitialResponse{InitialResponse: initial}})
	go func() { // Statistics are read and forgotten.
		for err := error(nil); err == nil; _, err = stream.Recv() {
		}
	}()
	for err == nil {
		b.mu.Lock()
		newest, changed := b.newest, b.changed
		b.mu.Unlock()
		if err = stream.Send(newest); err == nil {
			select {
			case <-changed:
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}
	}
	return err
}

func (b *balancer) read(file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	var backends []netip.AddrPort
	for _, line := range strings.Fields(string(text)) {
		backends = append(backends, netip.MustParseAddrPort(line))
	}
	b.set(func([]netip.AddrPort) []netip.AddrPort { return backends })
}

func (b *balancer) watch(file string) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		log.Fatal(err)
	}
	if err := watcher.Add(filepath.Dir(file)); err != nil {
		log.Fatal(err)
	}
	go func() {
		for event := range watcher.Events {
			if event.Name == file && event.Has(fsnotify.Create|fsnotify.Write) {
				b.read(file)
			}
		}
	}()
}

func (b *balancer) register(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 100))
	addr, err := netip.ParseAddrPort(string(body))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.set(func(all []netip.AddrPort) []netip.AddrPort { return append(all, addr) })
}

// ── what measures it ──

// Entries of the first list, and the backends after a number of changes: as in
// bench/src/backends.rs.
const (
	atFirst = 3
	port    = 50051
)

func backends(entries, change int) []netip.AddrPort {
	if change == 0 && entries > atFirst {
		entries = atFirst
	}
	at := func(ip uint32) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(ip >> 24), byte(ip >> 16), byte(ip >> 8), byte(ip)}), port)
	}
	var all []netip.AddrPort
	for i := 1; i < entries; i++ {
		all = append(all, at(0x0A000000+uint32(i)))
	}
	return append(all, at(0x0A800000|uint32(change%0xFFFF)<<1|1))
}

func clock(id int32) int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(id, &now); err != nil {
		log.Fatal(err)
	}
	return now.Nano()
}

func write(file string, backends []netip.AddrPort) {
	var text bytes.Buffer
	for _, addr := range backends {
		fmt.Fprintln(&text, addr)
	}
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		log.Fatal(err)
	}
}

// Makes a change in one of the three ways; the time is taken just before.
func push(b *balancer, by, file, registry string, entries, change int) int64 {
	now := func() int64 { return clock(unix.CLOCK_MONOTONIC) }
	switch {
	case by == "file":
		write(file+".new", backends(entries, change))
		before := now()
		if err := os.Rename(file+".new", file); err != nil {
			log.Fatal(err)
		}
		return before
	case by == "registration" && change > 1:
		// The first change brings the whole list.
		addr := fmt.Sprintf("127.128.%d.%d:%d", change/256, change%256, port)
		before := now()
		response, err := http.Post("http://"+registry+"/register", "text/plain", strings.NewReader(addr))
		if err != nil || response.StatusCode != http.StatusOK {
			log.Fatal(err, response)
		}
		response.Body.Close()
		return before
	default:
		next := backends(entries, change)
		before := now()
		b.set(func([]netip.AddrPort) []netip.AddrPort { return next })
		return before
	}
}

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "where to listen")
	entries := flag.Int("entries", 400, "entries of the list")
	by := flag.String("by", "memory", "how changes come")
	flag.Parse()

	b := &balancer{}
	b.set(func([]netip.AddrPort) []netip.AddrPort { return backends(*entries, 0) })
	folder, err := os.MkdirTemp("", "fanout")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	file, registry := filepath.Join(folder, "backends"), ""
	switch *by {
	case "file":
		write(file, backends(*entries, 0))
		b.watch(file)
	case "registration":
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		registry = listener.Addr().String()
		http.HandleFunc("POST /register", b.register)
		go http.Serve(listener, nil)
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	lb.RegisterLoadBalancerServer(server, b)
	go server.Serve(listener)
	fmt.Println("listening", listener.Addr())

	change := 0
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "push":
			change++
			fmt.Println("pushed", push(b, *by, file, registry, *entries, change))
		case "cpu":
			fmt.Println("cpu", clock(unix.CLOCK_PROCESS_CPUTIME_ID))
		default:
			log.Fatalf("the server does not understand %q", in.Text())
		}
	}
}
