// A Greeter of grpc-go that reports its load by ORCA, as grpc-go's own orca
// package does it. Nothing here knows of lookaside. One process is one backend;
// it obeys the lines on standard input (see ../../README.md).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"log"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/orca"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func main() {
	listen := flag.String("listen", "", "ip:port")
	capacity := flag.Float64("capacity", 100, "calls a second that are a utilization of 1")
	report := flag.String("report", "orca", "how it tells its load: orca or nothing")
	flag.Parse()

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	calls := &tally{tokens: map[string]int{}}
	server := grpc.NewServer(grpc.UnaryInterceptor(calls.count))
	server.RegisterService(&greeter, listener.Addr().String())
	healthy := health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, healthy)
	if *report == "orca" {
		recorder := orca.NewServerMetricsRecorder()
		if err := orca.Register(server, orca.ServiceOptions{ServerMetricsProvider: recorder}); err != nil {
			log.Fatal(err)
		}
		go record(recorder, calls, *capacity)
	}
	go func() { log.Fatal(server.Serve(listener)) }()

	out := json.NewEncoder(os.Stdout)
	answer := any(map[string]string{"listening": listener.Addr().String()})
	for lines := bufio.NewScanner(os.Stdin); ; {
		if err := out.Encode(answer); err != nil {
			log.Fatal(err)
		}
		if !lines.Scan() {
			return
		}
		answer = obey(lines.Text(), calls, healthy)
	}
}

// record keeps the recorder at what the last second was: ORCA wants rates, and
// only the program knows them.
func record(recorder orca.ServerMetricsRecorder, calls *tally, capacity float64) {
	before := calls.total()
	for range time.Tick(time.Second) {
		now := calls.total()
		qps := float64(now - before)
		before = now
		recorder.SetQPS(qps)
		recorder.SetApplicationUtilization(qps / capacity)
	}
}

func obey(line string, calls *tally, healthy *health.Server) any {
	switch line {
	case "counts":
		return calls.counts()
	case "health serving":
		healthy.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	case "health not_serving":
		healthy.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	default:
		return map[string]string{"error": "unknown command: " + line}
	}
	return struct{}{}
}

// greeter answers with its address, which is what it is registered with.
// StringValue has the wire form of HelloRequest and of HelloReply, one string in
// field 1, so no generated stubs are needed.
var greeter = grpc.ServiceDesc{
	ServiceName: "helloworld.Greeter",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "SayHello",
		Handler: func(address any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			request := new(wrapperspb.StringValue)
			if err := decode(request); err != nil {
				return nil, err
			}
			info := &grpc.UnaryServerInfo{Server: address, FullMethod: "/helloworld.Greeter/SayHello"}
			return intercept(ctx, request, info, func(context.Context, any) (any, error) {
				return wrapperspb.String(address.(string)), nil
			})
		},
	}},
}

// count counts a call, and the token that it brought.
func (t *tally) count(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if info.FullMethod == "/helloworld.Greeter/SayHello" {
		t.add(metadata.ValueFromIncomingContext(ctx, "lb-token"))
	}
	return handle(ctx, request)
}
