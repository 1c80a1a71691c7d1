package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// helpers are programs that the test binary becomes when FWATCHDOG_HELPER names one.
var helpers = map[string]func(){"web": web}

// web is a function for mode http. It listens where SOCKET or PORT says.
func web() {
	network, address := "tcp", "127.0.0.1:"+os.Getenv("PORT")
	if path := os.Getenv("SOCKET"); path != "" {
		os.Remove(path)
		network, address = "unix", path
	}
	for name := os.Getenv("WAIT_FOR"); name != ""; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			break
		}
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stderr, "pid %d\n", os.Getpid())
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() { <-terminated; fmt.Println("terminated"); os.Exit(0) }()
	http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("X-Saw", fmt.Sprint(r.Method, " ", r.Host, " ", r.URL.RequestURI(), " ", r.Header.Get("X-Forwarded-For")))
		w.WriteHeader(http.StatusAccepted)
		io.Copy(w, r.Body)
	})
	http.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	http.HandleFunc("/oom", func(http.ResponseWriter, *http.Request) {
		os.WriteFile(os.Getenv("OOM"), []byte("oom_kill 1\n"), 0o600)
		os.Exit(4)
	})
	http.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(os.Stderr, "hanging")
		io.Copy(io.Discard, r.Body) // or net/http does not notice that the caller goes away
		<-r.Context().Done()
		fmt.Fprintln(os.Stderr, "left alone")
	})
	http.HandleFunc("/full", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Faas-Replica-Full", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	http.HandleFunc("/ignore", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ignored") })
	http.HandleFunc("/half", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	http.HandleFunc("/events", events)
	http.HandleFunc("/upgrade", upgrade)
	http.Serve(ln, nil)
}

// events sends an event, and the next whenever the file that the query names changes from being absent to being there.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	for i := range 3 {
		fmt.Fprintf(w, "data: %d\n\n", i)
		http.NewResponseController(w).Flush()
		name := r.URL.Query().Get("file") + fmt.Sprint(i)
		for _, err := os.Stat(name); err != nil && r.Context().Err() == nil; _, err = os.Stat(name) {
			time.Sleep(time.Millisecond)
		}
	}
}

// upgrade says each line back in capitals.
func upgrade(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
	for s := bufio.NewScanner(rw); s.Scan(); {
		fmt.Fprintln(c, strings.ToUpper(s.Text()))
	}
}
