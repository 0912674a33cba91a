// SPDX-License-Identifier: ISC

// Go SDK clients at default settings for tests/campaign: the same as
// tests/clients/campaign_clients.mjs, which says what they do and tell.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand"
	"os"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

type facts map[string]any

type teller struct {
	mutex  sync.Mutex
	output *json.Encoder
}

func (t *teller) tell(what string, more facts) {
	line := facts{"what": what}
	for name, value := range more {
		line[name] = value
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if err := t.output.Encode(line); err != nil {
		log.Fatal(err)
	}
}

var told = teller{output: json.NewEncoder(os.Stdout)}

func errorCode(err error) int {
	var refused *centrifuge.Error
	if errors.As(err, &refused) {
		return int(refused.Code)
	}
	return -1
}

func newClient(url, name string) *centrifuge.Client {
	client := centrifuge.NewJsonClient(url, centrifuge.Config{})
	client.OnConnecting(func(e centrifuge.ConnectingEvent) {
		told.tell("connecting", facts{"client": name, "code": e.Code, "reason": e.Reason})
	})
	client.OnConnected(func(e centrifuge.ConnectedEvent) {
		told.tell("connected", facts{"client": name, "id": e.ClientID})
	})
	client.OnDisconnected(func(e centrifuge.DisconnectedEvent) {
		told.tell("disconnected", facts{"client": name, "code": e.Code, "reason": e.Reason})
	})
	client.OnError(func(e centrifuge.ErrorEvent) {
		told.tell("error", facts{"client": name, "code": -1, "reason": e.Error.Error()})
	})
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	return client
}

func subscribe(client *centrifuge.Client, name, channel string) {
	subscription, err := client.NewSubscription(channel)
	if err != nil {
		log.Fatal(err)
	}
	who := func(more facts) facts {
		more["client"], more["channel"] = name, channel
		return more
	}
	first := make(chan struct{}, 1)
	subscription.OnSubscribing(func(e centrifuge.SubscribingEvent) {
		told.tell("subscribing", who(facts{"code": e.Code, "reason": e.Reason}))
	})
	subscription.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) {
		told.tell("unsubscribed", who(facts{"code": e.Code, "reason": e.Reason}))
	})
	subscription.OnError(func(e centrifuge.SubscriptionErrorEvent) {
		told.tell("error", who(facts{"code": -1, "reason": e.Error.Error()}))
	})
	subscription.OnSubscribed(func(e centrifuge.SubscribedEvent) {
		offset := uint64(0)
		if e.StreamPosition != nil {
			offset = e.StreamPosition.Offset
		}
		told.tell("subscribed", who(facts{"offset": offset}))
		select {
		case first <- struct{}{}:
		default:
		}
	})
	subscription.OnPublication(func(e centrifuge.PublicationEvent) {
		var data struct {
			N int `json:"n"`
		}
		if err := json.Unmarshal(e.Data, &data); err != nil {
			log.Fatal(err)
		}
		told.tell("publication", who(facts{"n": data.N, "offset": e.Offset}))
	})
	if err := subscription.Subscribe(); err != nil {
		log.Fatal(err)
	}
	<-first
}

func publish(client *centrifuge.Client, name string, pause time.Duration, enough <-chan struct{}) {
	channel := "asked-" + name
	due := time.Now().Add(time.Duration(rand.Int63n(int64(pause))))
	for n := 1; ; n++ {
		select {
		case <-enough:
			return
		case <-time.After(time.Until(due)):
		}
		due = due.Add(pause)
		what := facts{"client": name, "channel": channel, "n": n}
		told.tell("published", what)
		data := []byte(fmt.Sprintf(`{"by":"%s","n":%d}`, name, n))
		if _, err := client.Publish(context.Background(), channel, data); err != nil {
			told.tell("refused", facts{"client": name, "channel": channel, "n": n,
				"code": errorCode(err), "reason": err.Error()})
			continue
		}
		told.tell("acknowledged", what)
	}
}

func main() {
	var wish struct {
		URL      string          `json:"url"`
		Name     string          `json:"name"`
		Clients  int             `json:"clients"`
		Rate     float64         `json:"rate"`
		Channels map[string]bool `json:"channels"`
	}
	if err := json.Unmarshal([]byte(os.Args[1]), &wish); err != nil {
		log.Fatal(err)
	}
	var positioned, others []string
	for channel, isPositioned := range wish.Channels {
		if isPositioned {
			positioned = append(positioned, channel)
		} else {
			others = append(others, channel)
		}
	}
	clients := make([]*centrifuge.Client, wish.Clients)
	for i := range clients {
		name := fmt.Sprintf("%s%d", wish.Name, i)
		clients[i] = newClient(wish.URL, name)
		subscribe(clients[i], name, positioned[i%len(positioned)])
		subscribe(clients[i], name, others[i%len(others)])
	}
	told.tell("ready", nil)

	input := bufio.NewScanner(os.Stdin)
	enough := make(chan struct{})
	var publishing sync.WaitGroup
	for i, client := range clients {
		publishing.Add(1)
		go func(client *centrifuge.Client, name string) {
			defer publishing.Done()
			pause := time.Duration(float64(wish.Clients) / wish.Rate * float64(time.Second))
			publish(client, name, pause, enough)
		}(client, fmt.Sprintf("%s%d", wish.Name, i))
	}
	if input.Scan() {
		close(enough)
		publishing.Wait()
		told.tell("quiet", nil)
	}
	for input.Scan() {
	}
}
