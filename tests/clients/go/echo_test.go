// SPDX-License-Identifier: ISC

package clients

import (
	"bytes"
	"math/rand"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

func echo(t *testing.T, connection *websocket.Conn, kind int, payload []byte) {
	t.Helper()
	if err := connection.WriteMessage(kind, payload); err != nil {
		t.Fatal(err)
	}
	gotKind, got, err := connection.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	if gotKind != kind || !bytes.Equal(got, payload) {
		t.Fatalf("%d bytes of kind %d came back as %d bytes of kind %d",
			len(payload), kind, len(got), gotKind)
	}
}

func TestEcho(t *testing.T) {
	connection := dial(t, startServer(t), "/echo")
	random := rand.New(rand.NewSource(1))
	for _, size := range []int{0, 1, 125, 126, 127, 1000, 65535, 65536} {
		binary := make([]byte, size)
		random.Read(binary)
		echo(t, connection, websocket.BinaryMessage, binary)
		echo(t, connection, websocket.TextMessage, []byte(strings.Repeat("x", size)))
	}
	echo(t, connection, websocket.TextMessage, []byte("ß € 😀 \x00"))
}

func TestEchoOfFragments(t *testing.T) {
	connection := dial(t, startServer(t), "/echo")
	writer, err := connection.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	// Larger than gorilla's write buffer, so that it goes out in several frames.
	sent := strings.Repeat("0123456789", 4000)
	for i := 0; i < len(sent); i += 1000 {
		if _, err := writer.Write([]byte(sent[i : i+1000])); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if _, got, err := connection.ReadMessage(); err != nil || string(got) != sent {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}

func TestEchoManyInFlight(t *testing.T) {
	connection := dial(t, startServer(t), "/echo")
	const messages = 2000
	failed := make(chan error, 1)
	go func() {
		for i := 0; i < messages; i++ {
			text := []byte(strconv.Itoa(i))
			if err := connection.WriteMessage(websocket.TextMessage, text); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	for i := 0; i < messages; i++ {
		if _, got, err := connection.ReadMessage(); err != nil || string(got) != strconv.Itoa(i) {
			t.Fatalf("message %d came as %q, %v", i, got, err)
		}
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

func TestPing(t *testing.T) {
	connection := dial(t, startServer(t), "/echo")
	var pong string
	connection.SetPongHandler(func(payload string) error {
		pong = payload
		return nil
	})
	if err := connection.WriteMessage(websocket.PingMessage, []byte("payload")); err != nil {
		t.Fatal(err)
	}
	echo(t, connection, websocket.TextMessage, []byte("behind the pong"))
	if pong != "payload" {
		t.Fatalf("pong %q", pong)
	}
}

func TestClose(t *testing.T) {
	address := startServer(t)
	for _, code := range []int{1000, 1001, 3000, 4999} {
		connection := dial(t, address, "/echo")
		message := websocket.FormatCloseMessage(code, "bye")
		if err := connection.WriteMessage(websocket.CloseMessage, message); err != nil {
			t.Fatal(err)
		}
		if _, _, err := connection.ReadMessage(); !websocket.IsCloseError(err, code) {
			t.Errorf("close %d was answered with %v", code, err)
		}
	}
}

func TestInvalidTextIs1007(t *testing.T) {
	connection := dial(t, startServer(t), "/echo")
	if err := connection.WriteMessage(websocket.TextMessage, []byte("\xff")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := connection.ReadMessage(); !websocket.IsCloseError(err, 1007) {
		t.Fatal(err)
	}
}

func TestOversizedMessageIs1009(t *testing.T) {
	connection := dial(t, startServer(t), "/echo")
	// The server may close before all of it is written.
	_ = connection.WriteMessage(websocket.BinaryMessage, make([]byte, 65537))
	if _, _, err := connection.ReadMessage(); !websocket.IsCloseError(err, 1009) {
		t.Fatal(err)
	}
}

func TestForeignOriginIs403(t *testing.T) {
	header := http.Header{"Origin": {"https://elsewhere.example"}}
	url := "ws://" + startServer(t) + "/connection/websocket"
	_, response, err := websocket.DefaultDialer.Dial(url, header)
	if err == nil || response == nil || response.StatusCode != http.StatusForbidden {
		t.Fatalf("%v, %v", response, err)
	}
}
