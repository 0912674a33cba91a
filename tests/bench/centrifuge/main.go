// SPDX-License-Identifier: ISC

// Command centrifuge is a peer of the benchmark: the server library that is
// inside Centrifugo (whose own module can't be fetched as one), with its Redis
// broker and a redis-server of its own, so that a publication goes the same way
// as keepsock's. It is started by tests/bench/run only and is never installed.
//
//	/connection/websocket  the client protocol; everybody may do everything
//	/api/publish           {"channel":…,"data":…}, answered with {"result":{}}
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/centrifugal/centrifuge"
)

var history = flag.Bool("history", false, "keep 1000 publications of each channel for 5 minutes")

func freePort() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// startRedis leaves the server in our process group and makes it die with us.
func startRedis(port int) {
	command := exec.Command("redis-server", "--port", strconv.Itoa(port), "--bind", "127.0.0.1",
		"--save", "", "--appendonly", "no")
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		log.Fatalf("redis-server: %v", err)
	}
	for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
		connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			connection.Close()
			return
		}
	}
	log.Fatal("redis-server does not listen")
}

func publishOptions() []centrifuge.PublishOption {
	if !*history {
		return nil
	}
	return []centrifuge.PublishOption{centrifuge.WithHistory(1000, 5*time.Minute)}
}

func onConnect(node *centrifuge.Node) func(*centrifuge.Client) {
	return func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
			done(centrifuge.SubscribeReply{
				Options: centrifuge.SubscribeOptions{EnableRecovery: *history},
			}, nil)
		})
		client.OnPublish(func(e centrifuge.PublishEvent, done centrifuge.PublishCallback) {
			result, err := node.Publish(e.Channel, e.Data, publishOptions()...)
			done(centrifuge.PublishReply{Result: &result}, err)
		})
	}
}

func newNode() *centrifuge.Node {
	port := freePort()
	startRedis(port)
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		log.Fatal(err)
	}
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{
		Address: fmt.Sprintf("127.0.0.1:%d", port),
	})
	if err != nil {
		log.Fatal(err)
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{
		Shards: []*centrifuge.RedisShard{shard},
	})
	if err != nil {
		log.Fatal(err)
	}
	node.SetBroker(broker)
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{}}, nil
	})
	node.OnConnect(onConnect(node))
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	return node
}

func apiPublish(node *centrifuge.Node) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			Channel string          `json:"channel"`
			Data    json.RawMessage `json:"data"`
		}
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if _, err := node.Publish(request.Channel, request.Data, publishOptions()...); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"result":{}}`)
	}
}

// releaseMemory gives back what the handshakes left over once the number of
// connections stands still, so that the bytes per idle connection are those that
// are needed and not garbage.
func releaseMemory(node *centrifuge.Node) {
	seen, released := 0, 0
	for range time.Tick(250 * time.Millisecond) {
		now := node.Hub().NumClients()
		if now == seen && now != released {
			debug.FreeOSMemory()
			released = now
		}
		seen = now
	}
}

func main() {
	flag.Parse()
	node := newNode()
	http.Handle("/connection/websocket",
		centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
			ReadBufferSize:     1024,
			UseWriteBufferPool: true,
		}))
	http.HandleFunc("/api/publish", apiPublish(node))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening %d\n", listener.Addr().(*net.TCPAddr).Port)
	go releaseMemory(node)
	go func() { log.Fatal(http.Serve(listener, nil)) }()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}
