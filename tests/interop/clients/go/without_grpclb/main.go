// A gRPC channel of grpc-go that does not know grpclb, driven line by line. It
// finds no SRV record, and of the TXT record's policies only round_robin.
package main

import "lookaside.test/interop/driven"

func main() { driven.Main() }
