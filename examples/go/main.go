// Calls a service through lookaside with grpc-go as it comes.
//
//	go run . [-dns 127.0.0.1:9053] [-seconds 10] [greeter.example.com]
//
// Each second it makes 100 calls and prints which backend answered how many.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	// The one thing a Go program needs: it registers the grpclb policy and turns
	// SRV lookups on. The service config from TXT is read by default.
	_ "google.golang.org/grpc/balancer/grpclb"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/examples/helloworld/helloworld"
	"google.golang.org/grpc/status"
)

const callsPerSecond = 100

func main() {
	dns := flag.String("dns", "", "ip:port of lookaside's DNS; the machine's own DNS if absent")
	seconds := flag.Int("seconds", 10, "how long to call")
	flag.Parse()
	service := "greeter.example.com"
	if flag.NArg() > 0 {
		service = flag.Arg(0)
	}

	// With -dns the names are asked of lookaside itself. In production delegate the
	// names to it, or copy its SRV and TXT records, and say "dns:///greeter.example.com".
	target := fmt.Sprintf("dns://%s/%s", *dns, service)
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	greeter := pb.NewGreeterClient(conn)

	second := time.NewTicker(time.Second)
	for range *seconds {
		answers := map[string]int{}
		for range callsPerSecond {
			answers[hello(greeter)]++
		}
		fmt.Println(line(answers))
		<-second.C
	}
}

// hello makes one call; what came of it, in words.
func hello(greeter pb.GreeterClient) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reply, err := greeter.SayHello(ctx, &pb.HelloRequest{Name: "go"})
	if err != nil {
		return fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message())
	}
	return reply.Message
}

func line(answers map[string]int) string {
	var parts []string
	for _, answer := range slices.Sorted(maps.Keys(answers)) {
		parts = append(parts, fmt.Sprintf("%d × %s", answers[answer], answer))
	}
	return strings.Join(parts, ", ")
}
