package faas

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A form is what a label's value must be, in words, and whether a text is that.
type form struct {
	want string
	is   func(text string) bool
}

var (
	anyText  = form{"", func(string) bool { return true }}
	number   = form{"a whole number from 0", func(s string) bool { n, err := strconv.Atoi(s); return err == nil && n >= 0 }}
	positive = form{"a whole number from 1", func(s string) bool { n, err := strconv.Atoi(s); return err == nil && n >= 1 }}
	percent  = form{"a whole number from 0 to 100", func(s string) bool { n, err := strconv.Atoi(s); return err == nil && n >= 0 && n <= 100 }}
	part     = form{"a number above 0 and at most 1", func(s string) bool { n, err := strconv.ParseFloat(s, 64); return err == nil && n > 0 && n <= 1 }}
	truth    = form{"true or false", func(s string) bool { _, err := strconv.ParseBool(s); return err == nil }}
	duration = form{"a duration such as 90s or 5m, or whole seconds", func(s string) bool { _, ok := ParseDuration(s); return ok }}
	quantity = form{"a quantity such as 4096 or 1Mi", func(s string) bool { _, err := ParseQuantity(s, 1); return err == nil }}
)

func oneOf(words ...string) form {
	return form{strings.Join(words, ", "), func(s string) bool { return slices.Contains(words, s) }}
}

// forms are those of all labels. Of callers' labels [Function.Edge] judges, and
// of the swarm's the provider, which refuses the deployment.
var forms = map[string]form{
	LabelMin: number, LabelMax: positive, LabelFactor: percent, LabelType: oneOf("capacity", "rps", "queue"),
	LabelTarget: positive, LabelProportion: part, LabelZero: truth, LabelZeroDuration: duration, LabelDownWindow: duration,
	LabelAuto: truth, LabelResolve: oneOf("min", "step"), LabelPriority: number, LabelProtect: oneOf("in-flight"),
	LabelAlexa: truth, LabelCanFulfill: truth,
	LabelJob: truth, LabelCompletions: anyText, LabelParallelism: anyText, LabelRetries: anyText,
	LabelAuth: anyText, LabelAuthSecret: anyText, LabelMethods: anyText, LabelMaxBody: anyText, LabelDomains: anyText,
	LabelConcurrency: number, LabelQueueDepth: number, LabelQueueTimeout: duration, LabelTimeout: duration,
	LabelOpenFiles: quantity, LabelProcesses: quantity, LabelRequest: quantity, LabelResponse: quantity, LabelExtension: anyText,
	LabelUser: anyText, LabelCapDrop: anyText, LabelInit: anyText, LabelTmpfs: anyText, LabelHealthcheck: anyText, LabelMaxPerNode: anyText,
	LabelUpdateOrder: anyText, LabelUpdateParallelism: anyText, LabelUpdateDelay: anyText, LabelUpdateFailure: anyText,
}

// Misread says which labels are not obeyed: their values don't parse or go with no other one's, or nothing
// here has their names, which begin with "faas." or "com.openfaas.scale.". Long values are cut.
func (f *Function) Misread() (remarks []string) {
	for _, label := range slices.Sorted(maps.Keys(f.Labels)) {
		form, known := forms[label]
		switch value := f.Labels[label]; {
		case !known && (strings.HasPrefix(label, "faas.") || strings.HasPrefix(label, "com.openfaas.scale.")):
			remarks = append(remarks, fmt.Sprintf("label %s has no effect: there is none of that name", label))
		case known && value != "" && !form.is(value):
			remarks = append(remarks, fmt.Sprintf("label %s %q is not obeyed: want %s", label, value[:min(len(value), 64)], form.want))
		}
	}
	if least, most := f.Number(LabelMin, 0), f.Number(LabelMax, 0); 0 < most && most < least {
		remarks = append(remarks, fmt.Sprintf("label %s \"%d\" is not obeyed: want at least %s, which is %d", LabelMax, most, LabelMin, least))
	}
	if f.Duration(LabelDownWindow, 0) > MaxDownWindow {
		remarks = append(remarks, fmt.Sprintf("label %s %q counts as %s, which is the most", LabelDownWindow, f.Labels[LabelDownWindow], MaxDownWindow))
	}
	if _, err := f.Edge(); err != nil {
		remarks = append(remarks, fmt.Sprintf("nobody may call it: %v", err))
	}
	domains := f.Domains()
	for _, name := range list(strings.ToLower(f.Labels[LabelDomains])) {
		if !slices.Contains(domains, name) {
			remarks = append(remarks, fmt.Sprintf("label %s %q is not obeyed: want names such as hello.example.com", LabelDomains, name[:min(len(name), 64)]))
		}
	}
	return remarks
}
