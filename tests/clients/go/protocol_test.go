// SPDX-License-Identifier: ISC

package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/gorilla/websocket"
)

// peer speaks the JSON protocol with Go's strict types: a number sent as a string, or null for an
// object, would not decode.
type peer struct {
	t          *testing.T
	connection *websocket.Conn
	waiting    []message
}

type message struct {
	ID        uint32           `json:"id"`
	Error     *protocolError   `json:"error"`
	Connect   *connectResult   `json:"connect"`
	Subscribe *subscribeResult `json:"subscribe"`
	Publish   *struct{}        `json:"publish"`
	Push      *push            `json:"push"`
}

type protocolError struct {
	Code      uint32 `json:"code"`
	Message   string `json:"message"`
	Temporary bool   `json:"temporary"`
}

type connectResult struct {
	Client  string `json:"client"`
	Version string `json:"version"`
	Ping    uint32 `json:"ping"`
	Pong    bool   `json:"pong"`
}

type subscribeResult struct {
	Recoverable   bool          `json:"recoverable"`
	Positioned    bool          `json:"positioned"`
	Recovered     bool          `json:"recovered"`
	WasRecovering bool          `json:"was_recovering"`
	Epoch         string        `json:"epoch"`
	Offset        uint64        `json:"offset"`
	Publications  []publication `json:"publications"`
}

type push struct {
	Channel string       `json:"channel"`
	Pub     *publication `json:"pub"`
}

type publication struct {
	Data   json.RawMessage `json:"data"`
	Offset uint64          `json:"offset"`
	Info   *struct {
		User   string `json:"user"`
		Client string `json:"client"`
	} `json:"info"`
}

func (p *peer) send(text string) {
	p.t.Helper()
	if err := p.connection.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

// next returns the next message, out of a frame that may hold several.
func (p *peer) next() message {
	p.t.Helper()
	for len(p.waiting) == 0 {
		kind, frame, err := p.connection.ReadMessage()
		if err != nil || kind != websocket.TextMessage {
			p.t.Fatal(kind, err)
		}
		for _, line := range bytes.Split(bytes.TrimSuffix(frame, []byte("\n")), []byte("\n")) {
			var decoded message
			if err := json.Unmarshal(line, &decoded); err != nil {
				p.t.Fatalf("%v in %s", err, line)
			}
			p.waiting = append(p.waiting, decoded)
		}
	}
	first := p.waiting[0]
	p.waiting = p.waiting[1:]
	return first
}

// reply returns the next message, which must answer command id without an error.
func (p *peer) reply(id uint32) message {
	p.t.Helper()
	got := p.next()
	if got.ID != id || got.Error != nil {
		p.t.Fatalf("instead of the reply to %d: %+v, error %+v", id, got, got.Error)
	}
	return got
}

func connect(t *testing.T, address string) *peer {
	t.Helper()
	p := &peer{t: t, connection: dial(t, address, "/connection/websocket")}
	p.send(`{"id":1,"connect":{"name":"go"}}`)
	result := p.reply(1).Connect
	if result == nil || result.Client == "" || result.Ping != 25 || !result.Pong {
		t.Fatalf("connect result %+v", result)
	}
	return p
}

func (p *peer) publish(id uint32, data string) {
	p.t.Helper()
	p.send(fmt.Sprintf(`{"id":%d,"publish":{"channel":"c","data":%s}}`, id, data))
	if p.reply(id).Publish == nil {
		p.t.Fatal("a publish reply without its result")
	}
}

func TestPublishAndRecover(t *testing.T) {
	address := startServer(t)
	publisher, subscriber := connect(t, address), connect(t, address)
	subscriber.send(`{"id":2,"subscribe":{"channel":"c"}}`)
	first := subscriber.reply(2).Subscribe
	if first == nil || !first.Recoverable || !first.Positioned || first.Epoch == "" {
		t.Fatalf("subscribe result %+v", first)
	}
	publisher.publish(2, `{"odd" :  [1e3, "\u00e9"]}`)
	got := subscriber.next().Push
	if got == nil || got.Channel != "c" || got.Pub == nil || got.Pub.Offset != 1 ||
		string(got.Pub.Data) != `{"odd" :  [1e3, "\u00e9"]}` || got.Pub.Info == nil {
		t.Fatalf("push %+v", got)
	}

	subscriber.connection.Close()
	publisher.publish(3, `2`)
	publisher.publish(4, `3`)
	back := connect(t, address)
	back.send(fmt.Sprintf(
		`{"id":2,"subscribe":{"channel":"c","recover":true,"offset":1,"epoch":"%s"}}`, first.Epoch))
	result := back.reply(2).Subscribe
	var missed []uint64
	for _, publication := range result.Publications {
		missed = append(missed, publication.Offset)
	}
	if !result.Recovered || !result.WasRecovering || result.Offset != 1 ||
		!reflect.DeepEqual(missed, []uint64{2, 3}) {
		t.Fatalf("recovery %+v", result)
	}
}

func TestErrorsAndDisconnects(t *testing.T) {
	address := startServer(t)
	p := connect(t, address)
	p.send(`{"id":2,"subscribe":{"channel":"nowhere:x"}}`)
	got := p.next()
	if got.ID != 2 || got.Error == nil || got.Error.Code != 102 || got.Error.Message == "" {
		t.Fatalf("%+v, error %+v", got, got.Error)
	}
	p.send(`{"id":3,`)
	if _, _, err := p.connection.ReadMessage(); !websocket.IsCloseError(err, 3501) {
		t.Fatal(err)
	}
}
