// Command HostnameIntent is an Alexa skill: it answers the intent of its name
// by speaking the name of the host that it runs on.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

type response struct {
	Version  string `json:"version"`
	Response struct {
		OutputSpeech     speech `json:"outputSpeech"`
		Card             card   `json:"card"`
		ShouldEndSession bool   `json:"shouldEndSession"`
	} `json:"response"`
}

type speech struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type card struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	Content string `json:"content"`
}

func main() {
	host, err := os.Hostname()
	if err != nil {
		fmt.Fprintln(os.Stderr, "HostnameIntent:", err)
		os.Exit(1)
	}
	text := "Your hostname is " + host
	r := response{Version: "1.0"}
	r.Response.OutputSpeech = speech{Type: "PlainText", Text: text}
	r.Response.Card = card{Type: "Simple", Title: "Hostname", Content: text}
	r.Response.ShouldEndSession = true
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		fmt.Fprintln(os.Stderr, "HostnameIntent:", err)
		os.Exit(1)
	}
}
