// Package driven is a gRPC channel that does what the lines on standard input
// say (see ../../README.md). Nothing here knows of lookaside: grpc-go's DNS
// resolver and its policies do the work.
package driven

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver/dns"
)

// Main dials what the flags say and answers commands until standard input ends.
func Main() {
	service := flag.String("service", "", "name or name:port to call")
	server := flag.String("dns", "", "ip:port of the DNS server")
	ca := flag.String("ca", "", "PEM of the CA to trust; plaintext if absent")
	deadline := flag.Float64("deadline", 5, "seconds for each RPC")
	interval := flag.Float64("resolve-interval", 0, "least seconds between resolutions")
	flag.Parse()

	if *interval > 0 {
		dns.SetMinResolutionInterval(time.Duration(*interval * float64(time.Second)))
	}
	transport := insecure.NewCredentials()
	if *ca != "" {
		transport = trust(*ca)
	}
	conn, err := grpc.NewClient(fmt.Sprintf("dns://%s/%s", *server, *service), grpc.WithTransportCredentials(transport))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	c := &client{conn: conn, deadline: time.Duration(*deadline * float64(time.Second))}

	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer, more := c.obey(strings.Fields(lines.Text()))
		if !more {
			return
		}
		if err := out.Encode(answer); err != nil {
			log.Fatal(err)
		}
	}
}

// obey does one command; its answer is one line of JSON.
func (c *client) obey(words []string) (answer any, more bool) {
	var count, concurrency int
	var perSecond float64
	line := strings.Join(words, " ")
	switch {
	case line == "load take":
		return c.load.tally.take(), true
	case line == "load stop":
		return c.stopLoad(), true
	case line == "quit":
		return nil, false
	case scans(line, "load start %g", &perSecond):
		c.startLoad(perSecond)
		return struct{}{}, true
	case scans(line, "call %d %d", &count, &concurrency):
		return c.call(count, concurrency, words[len(words)-1] == "wait"), true
	default:
		return map[string]string{"error": "unknown command: " + line}, true
	}
}

func scans(line, format string, into ...any) bool {
	n, _ := fmt.Sscanf(line, format, into...)
	return n == len(into)
}

func trust(file string) credentials.TransportCredentials {
	pem, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		log.Fatalf("%s: no certificate in it", file)
	}
	return credentials.NewTLS(&tls.Config{RootCAs: roots})
}
