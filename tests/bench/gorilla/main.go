// SPDX-License-Identifier: ISC

// Command gorilla is the Go peer of the benchmark: gorilla/websocket used the
// way its documentation recommends for speed, so that the comparison is with
// its best. It is started by tests/bench/run only and is never installed.
//
//	/echo       sends every message back
//	/subscribe  a member of the one group
//	/publish    what arrives here is broadcast to the group as a PreparedMessage
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// connections counts the open WebSockets; releaseMemory watches it.
var connections atomic.Int64

// Small read buffers and pooled write buffers: the settings gorilla's
// documentation gives for many mostly idle connections.
var upgrader = websocket.Upgrader{
	ReadBufferSize:  1024,
	WriteBufferSize: 1024,
	WriteBufferPool: &sync.Pool{},
}

// serve upgrades a request and hands every message to onMessage until the
// connection ends.
func serve(w http.ResponseWriter, r *http.Request, onOpen, onClose func(*websocket.Conn),
	onMessage func(*websocket.Conn, int, []byte) error) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered with an HTTP error
	}
	defer conn.Close()
	connections.Add(1)
	defer connections.Add(-1)
	onOpen(conn)
	defer onClose(conn)
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if err := onMessage(conn, kind, data); err != nil {
			return
		}
	}
}

func ignore(*websocket.Conn) {}

func echo(w http.ResponseWriter, r *http.Request) {
	serve(w, r, ignore, ignore, func(conn *websocket.Conn, kind int, data []byte) error {
		return conn.WriteMessage(kind, data)
	})
}

// hub is the group. A broadcast writes from the publisher's goroutine, straight
// to every member: with a goroutine and a channel per member, as in gorilla's
// chat example, each delivery would cost a goroutine switch more.
type hub struct {
	mu      sync.Mutex
	members map[*websocket.Conn]struct{}
}

func (h *hub) add(conn *websocket.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members[conn] = struct{}{}
}

func (h *hub) remove(conn *websocket.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.members, conn)
}

func (h *hub) broadcast(_ *websocket.Conn, kind int, data []byte) error {
	message, err := websocket.NewPreparedMessage(kind, data)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for conn := range h.members {
		// A member whose write fails is removed by its own reader.
		_ = conn.WritePreparedMessage(message)
	}
	return nil
}

func (h *hub) subscribe(w http.ResponseWriter, r *http.Request) {
	serve(w, r, h.add, h.remove, func(*websocket.Conn, int, []byte) error { return nil })
}

func (h *hub) publish(w http.ResponseWriter, r *http.Request) {
	serve(w, r, ignore, ignore, h.broadcast)
}

// releaseMemory gives what the handshakes left over back to the system once
// the number of connections stands still, so that the bytes per idle
// connection are those that are needed and not garbage.
func releaseMemory() {
	var seen, released int64
	for range time.Tick(250 * time.Millisecond) {
		now := connections.Load()
		if now == seen && now != released {
			debug.FreeOSMemory()
			released = now
		}
		seen = now
	}
}

func main() {
	address := flag.String("listen", "127.0.0.1:0", "address to listen on")
	certificate := flag.String("cert", "", "serve TLS with this certificate")
	key := flag.String("key", "", "the certificate's key")
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	group := &hub{members: map[*websocket.Conn]struct{}{}}
	http.HandleFunc("/echo", echo)
	http.HandleFunc("/subscribe", group.subscribe)
	http.HandleFunc("/publish", group.publish)
	debug.FreeOSMemory()
	go releaseMemory()
	// The runner reads the port from this line.
	fmt.Fprintf(os.Stdout, "listening %d\n", listener.Addr().(*net.TCPAddr).Port)
	if *certificate != "" {
		log.Fatal(http.ServeTLS(listener, nil, *certificate, *key))
	}
	log.Fatal(http.Serve(listener, nil))
}
