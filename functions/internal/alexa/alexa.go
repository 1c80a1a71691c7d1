// Package alexa is what a skill needs of Alexa's requests and answers.
package alexa

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// maxRequest bounds a request, in bytes. Amazon's have a few KiB.
const maxRequest = 128 << 10

// An Intent is what the user asked for.
type Intent struct {
	Name  string `json:"name"`
	Slots map[string]struct {
		Value string `json:"value"`
	} `json:"slots"`
}

// ReadIntent reads an IntentRequest.
func ReadIntent(r io.Reader) (*Intent, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxRequest+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxRequest {
		return nil, fmt.Errorf("the request has more than %d bytes", maxRequest)
	}
	var envelope struct {
		Request struct {
			Type   string `json:"type"`
			Intent Intent `json:"intent"`
		} `json:"request"`
	}
	if err := json.Unmarshal(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), &envelope); err != nil {
		return nil, fmt.Errorf("no Alexa request: %w", err)
	}
	if r := envelope.Request; r.Type != "IntentRequest" || r.Intent.Name == "" {
		return nil, fmt.Errorf("no Alexa IntentRequest: its type is %q", r.Type)
	}
	return &envelope.Request.Intent, nil
}

type answer struct {
	Version  string   `json:"version"`
	Response response `json:"response"`
}

type response struct {
	OutputSpeech     speech `json:"outputSpeech"`
	Card             card   `json:"card"`
	ShouldEndSession bool   `json:"shouldEndSession"`
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

// Main is a skill: it speaks the text that say returns, shows it on a card of
// that title, and ends the session.
func Main(title string, say func() (string, error)) {
	text, err := say()
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(answer{"1.0", response{speech{"PlainText", text}, card{"Simple", title, text}, true}})
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", title, err)
		os.Exit(1)
	}
}
