// A gRPC channel of grpc-go with its grpclb balancer, driven line by line.
package main

import (
	"lookaside.test/interop/driven"

	// The one import that a Go program needs: it registers the policy and turns
	// SRV lookups on.
	_ "google.golang.org/grpc/balancer/grpclb"
)

func main() { driven.Main() }
