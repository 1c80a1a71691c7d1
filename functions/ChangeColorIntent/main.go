// Command ChangeColorIntent is an Alexa skill that sets the colour of a lamp:
// it publishes {"r":R,"g":G,"b":B} on MQTT. The colour is what the slot
// LedColor says; the intent TurnOffIntent means none, 0,0,0. Of anything else
// it says what it heard.
//
// Variables: mqtt_url, the broker (default tcp://localhost:1883; ssl:// for
// TLS); mqtt_topic (default leds); mqtt_user; mqtt_password.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	_ "golang.org/x/crypto/x509roots/fallback" // an image FROM scratch has no certificates

	"github.com/caddy-faas/faas/functions/internal/alexa"
)

// patience bounds each step with the broker: Alexa waits 8 seconds for all.
const patience = 3 * time.Second

type color struct {
	R uint8 `json:"r"`
	G uint8 `json:"g"`
	B uint8 `json:"b"`
}

var colors = map[string]color{
	"red":    {255, 0, 0},
	"orange": {255, 128, 0},
	"yellow": {255, 255, 0},
	"green":  {0, 255, 0},
	"cyan":   {0, 255, 255},
	"blue":   {0, 0, 255},
	"purple": {128, 0, 255},
	"pink":   {255, 0, 128},
	"white":  {255, 255, 255},
}

func main() { alexa.Main("Lamp", answer) }

func answer() (string, error) {
	intent, err := alexa.ReadIntent(os.Stdin)
	if err != nil {
		return "", err
	}
	if intent.Name == "TurnOffIntent" {
		return "The lamp is off", publish(color{})
	}
	heard := strings.TrimSpace(intent.Slots["LedColor"].Value)
	if heard == "" {
		return "I heard no colour", nil
	}
	c, ok := colors[strings.ToLower(heard)]
	if !ok {
		return fmt.Sprintf("I heard %s, which is no colour that I know", heard), nil
	}
	return "The lamp is " + strings.ToLower(heard), publish(c)
}

func variable(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// publish returns once the broker has confirmed the message.
func publish(c color) error {
	message, err := json.Marshal(c)
	if err != nil {
		return err
	}
	broker, topic := variable("mqtt_url", "tcp://localhost:1883"), variable("mqtt_topic", "leds")
	client := mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker(broker).
		SetUsername(os.Getenv("mqtt_user")).
		SetPassword(os.Getenv("mqtt_password")).
		SetConnectTimeout(patience).
		SetAutoReconnect(false))
	if err := finish(client.Connect()); err != nil {
		return fmt.Errorf("connecting to %s: %w", broker, err)
	}
	defer client.Disconnect(100) // milliseconds, at most
	if err := finish(client.Publish(topic, 1, false, message)); err != nil {
		return fmt.Errorf("publishing on %s: %w", topic, err)
	}
	return nil
}

func finish(t mqtt.Token) error {
	if !t.WaitTimeout(patience) {
		return errors.New("the broker does not answer")
	}
	return t.Error()
}
