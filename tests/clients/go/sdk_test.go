// SPDX-License-Identifier: ISC

package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

// events collects what an SDK's callbacks tell, as text, in order.
type events struct {
	t    *testing.T
	list chan string
}

func newEvents(t *testing.T) *events {
	return &events{t: t, list: make(chan string, 1000)}
}

func (e *events) add(format string, values ...any) {
	e.list <- fmt.Sprintf(format, values...)
}

// expect waits for these events, in this order and with no other in between.
func (e *events) expect(wanted ...string) {
	e.t.Helper()
	for _, one := range wanted {
		select {
		case got := <-e.list:
			if got != one {
				e.t.Fatalf("expected %q, got %q", one, got)
			}
		case <-time.After(deadline):
			e.t.Fatalf("expected %q, got nothing", one)
		}
	}
}

// waitFor drops other events until this one comes.
func (e *events) waitFor(wanted string) {
	e.t.Helper()
	end := time.After(deadline)
	for {
		select {
		case got := <-e.list:
			if got == wanted {
				return
			}
		case <-end:
			e.t.Fatalf("no event %q", wanted)
		}
	}
}

func background(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// newClient makes a client that writes its events down and is closed at the test's end.
func newClient(t *testing.T, address string, config centrifuge.Config) (*centrifuge.Client, *events) {
	t.Helper()
	client := centrifuge.NewJsonClient("ws://"+address+"/connection/websocket", config)
	told := newEvents(t)
	client.OnConnected(func(centrifuge.ConnectedEvent) { told.add("connected") })
	client.OnConnecting(func(e centrifuge.ConnectingEvent) {
		if e.Code != 0 {
			told.add("connecting %d", e.Code)
		}
	})
	client.OnDisconnected(func(e centrifuge.DisconnectedEvent) { told.add("disconnected %d", e.Code) })
	client.OnSubscribed(func(e centrifuge.ServerSubscribedEvent) { told.add("server subscribed %s", e.Channel) })
	client.OnUnsubscribed(func(e centrifuge.ServerUnsubscribedEvent) {
		told.add("server unsubscribed %s", e.Channel)
	})
	client.OnPublication(func(e centrifuge.ServerPublicationEvent) {
		told.add("server publication %s %s", e.Channel, e.Data)
	})
	t.Cleanup(client.Close)
	return client, told
}

func connected(t *testing.T, address string, config centrifuge.Config) (*centrifuge.Client, *events) {
	t.Helper()
	client, told := newClient(t, address, config)
	if err := client.Connect(); err != nil {
		t.Fatal(err)
	}
	told.expect("connected")
	return client, told
}

// subscribed subscribes and writes the subscription's events down.
func subscribed(t *testing.T, client *centrifuge.Client, channel string,
	config centrifuge.SubscriptionConfig) (*centrifuge.Subscription, *events) {
	t.Helper()
	subscription, told := newSubscription(t, client, channel, config)
	if err := subscription.Subscribe(); err != nil {
		t.Fatal(err)
	}
	told.expect("subscribed")
	return subscription, told
}

func newSubscription(t *testing.T, client *centrifuge.Client, channel string,
	config centrifuge.SubscriptionConfig) (*centrifuge.Subscription, *events) {
	t.Helper()
	subscription, err := client.NewSubscription(channel, config)
	if err != nil {
		t.Fatal(err)
	}
	told := newEvents(t)
	subscription.OnSubscribed(func(e centrifuge.SubscribedEvent) {
		if e.WasRecovering {
			told.add("subscribed recovered=%t", e.Recovered)
		} else {
			told.add("subscribed")
		}
	})
	subscription.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) { told.add("unsubscribed %d", e.Code) })
	subscription.OnPublication(func(e centrifuge.PublicationEvent) { told.add("publication %s", e.Data) })
	subscription.OnJoin(func(e centrifuge.JoinEvent) { told.add("join %s", e.User) })
	subscription.OnLeave(func(e centrifuge.LeaveEvent) { told.add("leave %s", e.User) })
	return subscription, told
}

// api calls a method of the server API, which must succeed.
func api(t *testing.T, address, method string, request any) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post("http://"+address+"/api/"+method, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Result *json.RawMessage `json:"result"`
		Error  *json.RawMessage `json:"error"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Result == nil {
		t.Fatalf("%s: status %d, %v, %+v", method, response.StatusCode, err, answer)
	}
}

type object map[string]any

func TestSDKChannel(t *testing.T) {
	address := startServerWith(t, sdkConfig)
	ctx := background(t)
	client, _ := connected(t, address, centrifuge.Config{
		Token: token(object{"sub": "ann", "info": object{"name": "Ann"}}), EnableCompression: true})
	subscription, told := subscribed(t, client, "news", centrifuge.SubscriptionConfig{})
	for i := 1; i <= 3; i++ {
		if _, err := subscription.Publish(ctx, []byte(fmt.Sprintf(`{"number":%d}`, i))); err != nil {
			t.Fatal(err)
		}
		told.expect(fmt.Sprintf(`publication {"number":%d}`, i))
	}
	history, err := subscription.History(ctx, centrifuge.WithHistoryLimit(2), centrifuge.WithHistoryReverse(true))
	if err != nil || len(history.Publications) != 2 || history.Publications[0].Offset != 3 ||
		history.Offset != 3 || history.Epoch == "" || history.Publications[0].Info.User != "ann" {
		t.Fatalf("history %+v, %v", history, err)
	}
	since := &centrifuge.StreamPosition{Offset: 1, Epoch: history.Epoch}
	history, err = subscription.History(ctx, centrifuge.WithHistoryLimit(-1), centrifuge.WithHistorySince(since))
	if err != nil || len(history.Publications) != 2 || history.Publications[0].Offset != 2 {
		t.Fatalf("history since 1 %+v, %v", history, err)
	}
	presence, err := subscription.Presence(ctx)
	if err != nil || len(presence.Clients) != 1 {
		t.Fatalf("presence %+v, %v", presence, err)
	}
	for _, info := range presence.Clients {
		if info.User != "ann" || string(info.ConnInfo) != `{"name":"Ann"}` {
			t.Fatalf("presence %+v", info)
		}
	}
	if stats, err := subscription.PresenceStats(ctx); err != nil || stats.NumClients != 1 || stats.NumUsers != 1 {
		t.Fatalf("presence stats %+v, %v", stats, err)
	}
	if err := subscription.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	told.expect("unsubscribed 0")
}

func TestSDKRefusals(t *testing.T) {
	address := startServerWith(t, sdkConfig)
	ctx := background(t)
	client, _ := connected(t, address, centrifuge.Config{Token: token(object{"sub": "ann"})})
	for channel, code := range map[string]int{"closed:x": 103, "nowhere:x": 102, "$private": 103} {
		subscription, told := newSubscription(t, client, channel, centrifuge.SubscriptionConfig{})
		if err := subscription.Subscribe(); err != nil {
			t.Fatal(err)
		}
		told.expect(fmt.Sprintf("unsubscribed %d", code))
	}
	var refused *centrifuge.Error
	if _, err := client.RPC(ctx, "anything", []byte(`{}`)); !errors.As(err, &refused) || refused.Code != 108 {
		t.Fatalf("rpc: %v", err)
	}
	if _, err := client.Publish(ctx, "news", []byte(`1`)); !errors.As(err, &refused) || refused.Code != 103 {
		t.Fatalf("publish without a subscription: %v", err)
	}
	forged, told := newClient(t, address, centrifuge.Config{Token: token(object{"sub": "ann"}) + "x"})
	if err := forged.Connect(); err != nil {
		t.Fatal(err)
	}
	told.expect("disconnected 3500")
}

// An expired token makes the SDK fetch another; one that expires later is refreshed in time.
func TestSDKConnectionTokens(t *testing.T) {
	address := startServerWith(t, sdkConfig)
	asked := make(chan int, 100)
	count := 0
	client, told := connected(t, address, centrifuge.Config{
		Token: token(object{"sub": "ann", "exp": time.Now().Unix() - 10}),
		GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) {
			count++
			asked <- count
			if count == 4 {
				return "", centrifuge.ErrUnauthorized
			}
			return token(object{"sub": "ann", "exp": time.Now().Unix() + 2}), nil
		},
	})
	for want := 1; want <= 4; want++ {
		select {
		case got := <-asked:
			if got != want {
				t.Fatal(got)
			}
		case <-time.After(deadline):
			t.Fatalf("no token was asked for the %d. time", want)
		}
	}
	told.expect("disconnected 1")
	if client.State() != centrifuge.StateDisconnected {
		t.Fatal(client.State())
	}
}

func TestSDKSubscriptionTokens(t *testing.T) {
	address := startServerWith(t, sdkConfig)
	client, _ := connected(t, address, centrifuge.Config{Token: token(object{"sub": "ann"})})
	asked := make(chan string, 100)
	subscription, told := subscribed(t, client, "$private", centrifuge.SubscriptionConfig{
		GetToken: func(e centrifuge.SubscriptionTokenEvent) (string, error) {
			asked <- e.Channel
			return token(object{"sub": "ann", "channel": e.Channel, "exp": time.Now().Unix() + 2}), nil
		},
	})
	for i := 0; i < 3; i++ {
		select {
		case channel := <-asked:
			if channel != "$private" {
				t.Fatal(channel)
			}
		case <-time.After(deadline):
			t.Fatal("the subscription's token was not refreshed")
		}
	}
	api(t, address, "publish", object{"channel": "$private", "data": 1})
	told.expect("publication 1")
	if subscription.State() != centrifuge.SubStateSubscribed {
		t.Fatal(subscription.State())
	}
}

func TestSDKJoinLeave(t *testing.T) {
	address := startServerWith(t, sdkConfig)
	ann, _ := connected(t, address, centrifuge.Config{Token: token(object{"sub": "ann"})})
	bob, _ := connected(t, address, centrifuge.Config{Token: token(object{"sub": "bob"})})
	_, told := subscribed(t, ann, "room", centrifuge.SubscriptionConfig{JoinLeave: true})
	told.expect("join ann")
	other, _ := subscribed(t, bob, "room", centrifuge.SubscriptionConfig{})
	told.expect("join bob")
	if err := other.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	told.expect("leave bob")
	if err := other.Subscribe(); err != nil {
		t.Fatal(err)
	}
	told.expect("join bob")
	bob.Close()
	told.expect("leave bob")
}

// breaker dials connections that the test can break.
type breaker struct {
	mutex      sync.Mutex
	connection net.Conn
}

func (b *breaker) dial(ctx context.Context, network, address string) (net.Conn, error) {
	connection, err := (&net.Dialer{}).DialContext(ctx, network, address)
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.connection = connection
	return connection, err
}

func (b *breaker) cut() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.connection.Close()
}

func TestSDKRecovery(t *testing.T) {
	address := startServerWith(t, sdkConfig)
	var line breaker
	client, life := connected(t, address, centrifuge.Config{
		Token: token(object{"sub": "ann"}), NetDialContext: line.dial})
	_, told := subscribed(t, client, "news", centrifuge.SubscriptionConfig{Recoverable: true})
	_, lost := subscribed(t, client, "fast", centrifuge.SubscriptionConfig{Recoverable: true})
	api(t, address, "publish", object{"channel": "news", "data": 0})
	told.expect("publication 0")
	line.cut()
	for i := 1; i <= 5; i++ {
		api(t, address, "publish", object{"channel": "news", "data": i})
	}
	/* More than the history holds. */
	for i := 0; i < 101; i++ {
		api(t, address, "publish", object{"channel": "fast", "data": i})
	}
	life.waitFor("connected")
	told.waitFor("subscribed recovered=true")
	for i := 1; i <= 5; i++ {
		told.waitFor(fmt.Sprintf("publication %d", i))
	}
	lost.waitFor("subscribed recovered=false")
	api(t, address, "publish", object{"channel": "news", "data": 6})
	told.expect("publication 6")
}

func TestSDKCacheRecovery(t *testing.T) {
	address := startServerWith(t, sdkConfig)
	api(t, address, "publish", object{"channel": "cache:price", "data": 1})
	api(t, address, "publish", object{"channel": "cache:price", "data": 2})
	client, _ := connected(t, address, centrifuge.Config{Token: token(object{"sub": "ann"})})
	subscription, told := newSubscription(t, client, "cache:price", centrifuge.SubscriptionConfig{})
	if err := subscription.Subscribe(); err != nil {
		t.Fatal(err)
	}
	told.waitFor("publication 2")
	api(t, address, "publish", object{"channel": "cache:price", "data": 3})
	told.waitFor("publication 3")
}

func TestSDKServerSide(t *testing.T) {
	address := startServerWith(t, sdkConfig)
	client, told := newClient(t, address, centrifuge.Config{
		Token: token(object{"sub": "ann", "channels": []string{"news"}})})
	if err := client.Connect(); err != nil {
		t.Fatal(err)
	}
	told.waitFor("server subscribed news")
	api(t, address, "publish", object{"channel": "news", "data": object{"a": 1}})
	told.waitFor(`server publication news {"a":1}`)

	api(t, address, "subscribe", object{"user": "ann", "channel": "alerts"})
	told.waitFor("server subscribed alerts")
	api(t, address, "publish", object{"channel": "alerts", "data": 2})
	told.expect("server publication alerts 2")
	api(t, address, "unsubscribe", object{"user": "ann", "channel": "news"})
	told.expect("server unsubscribed news")

	/* What the API subscribed comes back with the user's next connection. */
	api(t, address, "disconnect", object{"user": "ann",
		"disconnect": object{"code": 4000, "reason": "come again"}})
	told.waitFor("connecting 4000")
	told.waitFor("server subscribed alerts")
	api(t, address, "publish", object{"channel": "alerts", "data": 3})
	told.waitFor("server publication alerts 3")
	api(t, address, "disconnect", object{"user": "ann"})
	told.waitFor("disconnected 3503")
}
