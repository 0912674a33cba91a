// SPDX-License-Identifier: ISC

// Package clients tests keepsock with gorilla/websocket, an RFC 6455 implementation that shares no
// code with it, and with the official SDK centrifuge-go. This file starts and judges the node.
package clients

import (
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const deadline = 20 * time.Second

var sanitizerReport = regexp.MustCompile(
	`ERROR: (Address|Leak|Undefined\w*)Sanitizer|runtime error:|SUMMARY: \w+Sanitizer`)

const config = `
node = { name = "a"; run_dir = "run"; state_dir = "state"; workers = 2; };
listeners = ( { address = "127.0.0.1"; port = %d; } );
client = { insecure = true; };
channel = { allow_subscribe_for_client = true; allow_publish_for_client = true;
	history_size = 100; history_ttl = "5m"; force_recovery = true; };
admin = { socket = "admin.sock"; };
`

const tokenKey = "key-of-the-go-tests"

// What the SDK's tests need: tokens instead of insecure clients, and a server API.
const sdkConfig = `
node = { name = "a"; run_dir = "run"; state_dir = "state"; workers = 2; };
listeners = ( { address = "127.0.0.1"; port = %d; } );
token = { hmac_secret_file = "token-key"; };
http_api = { insecure = true; };
websocket = { compression = true; compression_min_size = 16; };
channel = { allow_subscribe_for_client = true; allow_publish_for_subscriber = true;
	allow_presence_for_subscriber = true; allow_history_for_subscriber = true;
	presence = true; join_leave = true;
	history_size = 100; history_ttl = "5m"; };
namespaces = (
	{ name = "closed"; },
	{ name = "cache"; allow_subscribe_for_client = true; history_size = 1; history_ttl = "5m";
	  force_recovery = true; force_recovery_mode = "cache"; auto_cache_recover = true; } );
admin = { socket = "admin.sock"; };
`

// freePort finds a port outside the range of outgoing connections: nodes set SO_REUSEPORT and would
// share one without noticing.
func freePort() int {
	random := rand.New(rand.NewSource(time.Now().UnixNano()))
	for {
		port := 10000 + random.Intn(22000)
		probe, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			probe.Close()
			return port
		}
	}
}

// startServer runs a node until the end of the test and returns its host:port.
func startServer(t *testing.T) string {
	t.Helper()
	return startServerWith(t, config)
}

// startServerWith does so with a configuration of the caller's, whose one verb is the port.
func startServerWith(t *testing.T, config string) string {
	t.Helper()
	binary := os.Getenv("KEEPSOCKD")
	if binary == "" {
		binary = "../../../var/build/test/keepsockd"
	}
	directory, port := t.TempDir(), freePort()
	path := filepath.Join(directory, "keepsock.conf")
	if err := os.WriteFile(path, []byte(fmt.Sprintf(config, port)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "token-key"), []byte(tokenKey), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(directory, "keepsockd.log"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary, "-c", path)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopServer(t, command, log.Name()) })
	address := fmt.Sprintf("127.0.0.1:%d", port)
	waitReady(t, address, log.Name())
	return address
}

func stopServer(t *testing.T, command *exec.Cmd, log string) {
	command.Process.Signal(syscall.SIGTERM)
	killer := time.AfterFunc(deadline, func() { command.Process.Kill() })
	defer killer.Stop()
	err := command.Wait()
	text, _ := os.ReadFile(log)
	if err != nil || sanitizerReport.Match(text) {
		t.Errorf("the node ended badly: %v\n%s", err, text)
	}
}

// waitReady waits until all workers are ready: /ready speaks only for the one that answers it.
func waitReady(t *testing.T, address, log string) {
	t.Helper()
	client := http.Client{Timeout: time.Second}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(deadline); time.Now().Before(end); <-tick.C {
		response, err := client.Get("http://" + address + "/metrics")
		if err != nil {
			continue
		}
		metrics, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if strings.Contains(string(metrics), "\nkeepsock_ready 1\n") {
			return
		}
	}
	text, _ := os.ReadFile(log)
	t.Fatalf("the node does not get ready:\n%s", text)
}

// dial opens a WebSocket whose reads and writes fail after the deadline.
func dial(t *testing.T, address, path string) *websocket.Conn {
	t.Helper()
	connection, _, err := websocket.DefaultDialer.Dial("ws://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	connection.SetReadDeadline(time.Now().Add(deadline))
	connection.SetWriteDeadline(time.Now().Add(deadline))
	t.Cleanup(func() { connection.Close() })
	return connection
}
