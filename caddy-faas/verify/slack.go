package verify

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Slack verifies X-Slack-Signature. The event is the type of the event inside
// (app_mention), of the interaction (block_actions), or slash_command; the
// delivery is its event_id or trigger_id. The challenge of url_verification is
// replied to.
func Slack(secrets [][]byte, tolerance time.Duration) Scheme { return slack{secrets, tolerance} }

type slack struct {
	secrets   [][]byte
	tolerance time.Duration
}

func (s slack) Claim(h http.Header, now time.Time) (Claim, error) {
	text, err := one(h, "X-Slack-Signature")
	if err != nil {
		return nil, err
	}
	mac, err := hexMAC(text, "v0=", sha256.Size)
	if err != nil {
		return nil, err
	}
	stamp, err := one(h, "X-Slack-Request-Timestamp")
	if err != nil {
		return nil, err
	}
	t, err := unix(stamp, now, s.tolerance)
	if err != nil {
		return nil, err
	}
	return &authenticated{secrets: s.secrets, macs: [][]byte{mac}, before: "v0:" + stamp + ":", time: t, describe: slackEvent}, nil
}

// slackEvent reads an event's JSON, or the form of a command or an interaction.
func slackEvent(body []byte) Event {
	var m struct {
		Type      string `json:"type"`
		Challenge string `json:"challenge"`
		EventID   string `json:"event_id"`
		TriggerID string `json:"trigger_id"`
		Event     struct {
			Type string `json:"type"`
		} `json:"event"`
	}
	if json.Unmarshal(body, &m) != nil {
		form, err := url.ParseQuery(string(body))
		switch {
		case err != nil:
			return Event{}
		case form.Has("command"):
			return Event{Name: "slash_command", Delivery: word(form.Get("trigger_id"))}
		case json.Unmarshal([]byte(form.Get("payload")), &m) != nil:
			return Event{}
		}
		return Event{Name: word(m.Type), Delivery: word(m.TriggerID)}
	}
	e := Event{Name: word(m.Type), Delivery: word(m.EventID)}
	if m.Type == "event_callback" {
		e.Name = word(m.Event.Type)
	}
	if m.Type == "url_verification" {
		e.Reply = &Reply{"text/plain; charset=utf-8", m.Challenge}
	}
	return e
}
