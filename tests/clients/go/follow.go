// Prints every event of a stream as a line of JSON: go run . http://127.0.0.1:3000/orders
package main

import (
	"encoding/json"
	"log"
	"os"
	"time"

	"github.com/launchdarkly/eventsource"
)

// A line arrives every 15 s at the latest (http.keepalive), so longer silence is a dead connection.
const silence = 45 * time.Second

func main() {
	stream, err := eventsource.SubscribeWithURL(os.Args[1],
		eventsource.StreamOptionReadTimeout(silence),
		// It comes back by itself; with this, the first time too.
		eventsource.StreamOptionCanRetryFirstConnection(-1),
		eventsource.StreamOptionErrorHandler(func(err error) eventsource.StreamErrorHandlerResult {
			log.Println("reconnecting:", err)
			return eventsource.StreamErrorHandlerResult{}
		}))
	if err != nil {
		log.Fatal(err)
	}
	for event := range stream.Events {
		name := event.Event()
		if name == "" {
			name = "message"
		}
		handle(name, event.Data(), event.(eventsource.EventWithLastID).LastEventID())
	}
}

func handle(event, data, id string) {
	line, err := json.Marshal(map[string]string{"event": event, "data": data, "id": id})
	if err != nil {
		log.Fatal(err)
	}
	os.Stdout.Write(append(line, '\n'))
}
