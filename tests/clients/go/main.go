// Programs with the Go client, which tests run against a live service. The module stands for one of a user: it has the
// client by a replace, and nothing else of this repository.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/webhook-grpc/webhook-grpc/clients/go/client"
	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

var (
	address  = flag.String("address", "", "where the service serves")
	customer = flag.Int64("customer", 42, "whose events")
	count    = flag.Int("count", 1, "how many events")
	tasks    = flag.Int("tasks", 1, "how many goroutines publish")
	stops    = flag.String("stops", "", "numbers at which the publisher writes a line and reads one")
	cursor   = flag.String("cursor", "", "the cursor file")
	token    = flag.String("token", "", "the token file")
	ca       = flag.String("ca", "", "the authority of the service")
	cert     = flag.String("cert", "", "a certificate for mTLS")
	key      = flag.String("key", "", "its key")
	public   = flag.String("public", "", "the public key that requests are verified with")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	programs := map[string]func(context.Context) error{"publish": publish, "watch": watch, "one": one, "receive": receive, "sketch": runSketch}
	if err := programs[flag.Arg(0)](context.Background()); err != nil {
		log.Fatal(err)
	}
}

// publish publishes events from many goroutines, and prints their ids when all are in the log.
func publish(ctx context.Context) error {
	numbers := make(chan int)
	go paced(numbers)
	c, err := client.New(*address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	p := c.NewPublisher(client.PublisherOptions{})
	results := make([]*client.Result, *count)
	var all sync.WaitGroup
	for range *tasks {
		all.Add(1)
		go func() {
			defer all.Done()
			if err := produce(ctx, p, numbers, results); err != nil {
				log.Fatal(err)
			}
		}()
	}
	all.Wait()
	if err := p.Close(ctx); err != nil {
		return err
	}
	for _, result := range results {
		published, err := result.Get(ctx)
		if err != nil {
			return err
		}
		fmt.Println(published.EventID)
	}
	return nil
}

// produce is what a producer writes: it publishes an event for each number.
func produce(ctx context.Context, p *client.Publisher, numbers <-chan int, results []*client.Result) error {
	for number := range numbers {
		data := json.RawMessage(fmt.Sprintf(`{"n":%d}`, number))
		result, err := p.Publish(ctx, client.Event{CustomerID: *customer, Type: "job.completed", Data: data})
		if err != nil {
			return err
		}
		results[number] = result
	}
	return nil
}

// paced numbers the events. At each stop it writes a line, and goes on when it has read one.
func paced(numbers chan<- int) {
	waiting := map[string]bool{}
	for _, stop := range strings.Split(*stops, ",") {
		waiting[stop] = true
	}
	goOn := bufio.NewReader(os.Stdin)
	for number := range *count {
		if text := strconv.Itoa(number); waiting[text] {
			fmt.Println("reached", text)
			if _, err := goOn.ReadString('\n'); err != nil {
				log.Fatal(err)
			}
		}
		numbers <- number
	}
	close(numbers)
}

// watch prints the id of each event whose delivery has succeeded, until there are enough.
func watch(ctx context.Context) error {
	c, err := client.New(*address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return consume(ctx, c, map[string]bool{})
}

// consume is what a consumer writes: it notes each event whose delivery has succeeded.
func consume(ctx context.Context, c *client.Client, seen map[string]bool) error {
	w := c.Watch(client.WatchOptions{CustomerID: *customer, Cursors: client.CursorFile(*cursor)})
	for delivery, err := range w.All(ctx) {
		if err != nil {
			return err
		}
		if delivery.GetStatus() == webhookv1.DeliveryStatus_DELIVERY_STATUS_SUCCEEDED && !seen[delivery.GetEventId()] {
			seen[delivery.GetEventId()] = true
			fmt.Println(delivery.GetEventId())
		}
		if len(seen) == *count {
			break
		}
	}
	return nil
}

// one publishes one event over TLS.
func one(ctx context.Context) error {
	c, err := client.New(*address, client.WithTLS(client.TLS{CAFile: *ca, CertFile: *cert, KeyFile: *key}))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	published, err := c.Publish(ctx, client.Event{CustomerID: *customer, Type: "job.completed", Data: json.RawMessage("{}")})
	fmt.Println(published.EventID)
	return err
}

// receive prints its address, and the id of each message that is genuine by the public key, until its input ends.
func receive(context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	hook := client.Verify(client.PublicKeys(*public), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(client.MessageFrom(r.Context()).WebhookID)
		w.WriteHeader(http.StatusNoContent)
	}))
	fmt.Println(listener.Addr())
	go func() { _ = http.Serve(listener, hook) }()
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	return err
}
