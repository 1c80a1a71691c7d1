// Command live is an HTTP server as a function: started once, it keeps
// connections open. It listens on the port in PORT, on the loopback interface.
//
//	/        says where the others are
//	/events  server-sent events: the time, now and every second (?every=100ms for another pace)
//	/ws      a WebSocket that sends back what it gets
//
// On SIGTERM it takes no new connections, ends the open ones in their protocol
// and exits.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

// maxMessage bounds a WebSocket's message, in bytes.
const maxMessage = 1 << 20

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "live:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	s := &server{ctx: ctx}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.index)
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("GET /ws", s.echo)
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", os.Getenv("PORT")))
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.Background(), 4*time.Second) // the watchdog allows 5
	defer cancel()
	err = srv.Shutdown(late)
	s.sockets.Wait() // Shutdown doesn't know them
	return err
}

type server struct {
	ctx     context.Context // ends with the server
	sockets sync.WaitGroup
}

func (s *server) index(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "This is live. /events sends the time, /ws is a WebSocket that echoes.")
}

func (s *server) events(w http.ResponseWriter, r *http.Request) {
	every := time.Second
	if text := r.URL.Query().Get("every"); text != "" {
		var err error
		if every, err = time.ParseDuration(text); err != nil || every < 10*time.Millisecond {
			http.Error(w, "every: want a duration of 10ms or more", http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for now := time.Now(); ; {
		fmt.Fprintf(w, "data: %s\n\n", now.UTC().Format(time.RFC3339Nano))
		if out.Flush() != nil {
			return
		}
		select {
		case now = <-tick.C:
		case <-r.Context().Done():
			return
		case <-s.ctx.Done():
			fmt.Fprint(w, "event: end\ndata: the server ends\n\n")
			return
		}
	}
}

func (s *server) echo(w http.ResponseWriter, r *http.Request) {
	s.sockets.Add(1) // before Shutdown loses sight of it
	defer s.sockets.Done()
	upgrader := websocket.Upgrader{HandshakeTimeout: 10 * time.Second} // same origin only
	c, err := upgrader.Upgrade(w, r, nil)                              // answers if it fails
	if err != nil {
		return
	}
	defer c.Close()
	c.SetReadLimit(maxMessage)
	stop := context.AfterFunc(s.ctx, func() {
		bye := websocket.FormatCloseMessage(websocket.CloseGoingAway, "the server ends")
		c.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second))
		c.SetReadDeadline(time.Now().Add(time.Second)) // for the client's own
	})
	defer stop()
	for {
		kind, message, err := c.ReadMessage()
		if err != nil {
			return
		}
		c.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if err := c.WriteMessage(kind, message); err != nil {
			if !errors.Is(err, websocket.ErrCloseSent) {
				fmt.Fprintln(os.Stderr, "live:", err)
			}
			return
		}
	}
}
