package caddyfaas

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

const (
	alexaMaxAnswer = 120 << 10 // bytes, Alexa's limit
	alexaMaxSpeech = 8000      // characters, Alexa's limit
)

// alexaType is the Content-Type of all answers to Alexa.
const alexaType = "application/json;charset=UTF-8"

// silence is the answer to what wants none.
const silence = `{"version":"1.0","response":{}}`

// farewell ends the skill without a word.
const farewell = `{"version":"1.0","response":{"shouldEndSession":true}}`

// incapable says that an intent can't be answered.
const incapable = `{"version":"1.0","response":{"canFulfillIntent":{"canFulfill":"NO"}}}`

// welcome and sorry are spoken where no function does, by language.
var (
	welcome = map[string]string{
		"en": "What would you like to do?", "de": "Was möchtest du tun?", "fr": "Que souhaitez-vous faire ?", "es": "¿Qué quieres hacer?",
		"it": "Cosa vuoi fare?", "pt": "O que você gostaria de fazer?", "ja": "ご用件は何ですか？", "hi": "आप क्या करना चाहेंगे?", "ar": "ماذا تريد أن تفعل؟",
	}
	sorry = map[string]string{
		"en": "Sorry, that did not work.", "de": "Das hat leider nicht geklappt.", "fr": "Désolé, cela n'a pas fonctionné.", "es": "Lo siento, no ha funcionado.",
		"it": "Mi dispiace, non ha funzionato.", "pt": "Desculpe, isso não funcionou.", "ja": "申し訳ありません。うまくいきませんでした。", "hi": "माफ़ कीजिए, यह नहीं हो सका।", "ar": "عذرًا، لم ينجح ذلك.",
	}
)

// inLocale is the sentence for a locale such as de-AT: its own, its language's, or the one for all others.
func inLocale(sentences map[string]string, locale string) string {
	language, _, _ := strings.Cut(locale, "-")
	for _, l := range []string{locale, language, ""} {
		if s := sentences[l]; s != "" {
			return s
		}
	}
	return ""
}

// apology is what to say when something has gone wrong.
func (a *Alexa) apology(locale string) string {
	for _, sentences := range []map[string]string{a.OnError, sorry} {
		if s := inLocale(sentences, locale); s != "" {
			return s
		}
	}
	return sorry["en"]
}

// canned is the answer of a skill whose function says nothing; "" if it should have said something.
func (a *Alexa) canned(req *alexaRequest) string {
	switch {
	case req.canFulfill():
		return incapable
	case req.mute():
		return silence
	case leaves[req.name()]:
		return farewell
	case req.Request.Type == "LaunchRequest", req.name() == "AMAZON.HelpIntent":
		s := inLocale(welcome, req.Request.Locale)
		if s == "" {
			s = welcome["en"]
		}
		return speak(s, false)
	}
	return ""
}

// failed is the answer when something has gone wrong.
func (a *Alexa) failed(req *alexaRequest) string {
	switch {
	case req.canFulfill():
		return incapable
	case req.mute():
		return silence
	}
	return speak(a.apology(req.Request.Locale), true)
}

// speak makes an answer of a text.
func speak(text string, end bool) string {
	if utf8.RuneCountInString(text) > alexaMaxSpeech {
		text = string([]rune(text)[:alexaMaxSpeech])
	}
	type speech struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	var m struct {
		Version  string `json:"version"`
		Response struct {
			OutputSpeech     speech `json:"outputSpeech"`
			ShouldEndSession bool   `json:"shouldEndSession"`
		} `json:"response"`
	}
	m.Version, m.Response.OutputSpeech, m.Response.ShouldEndSession = "1.0", speech{"PlainText", text}, end
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(m) // can't fail
	return strings.TrimSuffix(b.String(), "\n")
}

var errNoAnswer = errors.New("the function's answer is no Alexa response: want JSON with version and response, or the option wrap_text")

// answer is what a function's output says to Alexa.
func (a *Alexa) answer(req *alexaRequest, output []byte) (string, error) {
	var m struct {
		Version  string           `json:"version"`
		Response *json.RawMessage `json:"response"`
	}
	text := bytes.TrimSpace(bytes.TrimPrefix(output, []byte("\xef\xbb\xbf")))
	switch {
	case json.Unmarshal(text, &m) == nil && m.Version != "" && m.Response != nil && bytes.HasPrefix(*m.Response, []byte("{")):
		return string(text), nil
	case req.mute() && !req.canFulfill():
		return silence, nil // whatever it says, nobody hears it
	case a.WrapText && !req.canFulfill() && len(text) > 0:
		return speak(string(text), true), nil
	}
	return "", errNoAnswer
}
