package scale

import "time"

// alertPolicy is OpenFaaS's alert path: a rate of answers above 5/s, looked at
// every so often, adds 20% of the most after 5 s and each 30 s; below it goes to the minimum.
type alertPolicy struct {
	every            time.Duration
	at, firing, sent time.Duration
	completed        uint64
	want             int
	isFiring         bool
}

func (a *alertPolicy) Decide(r Rules, s Sample) Decision {
	if a.want == 0 {
		a.want, a.at, a.completed = 1, s.At, s.Completed
	}
	if s.At-a.at >= a.every {
		firing := float64(s.Completed-a.completed)/(s.At-a.at).Seconds() > 5
		a.at, a.completed = s.At, s.Completed
		if firing && !a.isFiring {
			a.firing, a.sent = s.At, 0
		}
		if a.isFiring = firing; !firing {
			a.want = 1
		}
	}
	if a.isFiring && s.At-a.firing >= 5*time.Second && (a.sent == 0 || s.At-a.sent >= 30*time.Second) {
		a.sent = s.At
		a.want = min(r.Max, a.want+(r.Max+4)/5)
	}
	return Decision{Want: a.want, Keep: a.want}
}

// kpaPolicy is like Knative's: the mean of requests at once, those that wait
// included, over 60 s, or over 6 s when that asks for twice what there is.
type kpaPolicy struct {
	samples []kpaSample
	at      time.Duration
	panic   time.Duration // until
	most    int
	want    int
}

type kpaSample struct {
	at time.Duration
	n  float64
}

func (k *kpaPolicy) Decide(r Rules, s Sample) Decision {
	if len(k.samples) == 0 || s.At-k.samples[len(k.samples)-1].at >= step {
		k.samples = append(k.samples, kpaSample{s.At, float64(s.InFlight + s.Queued)})
	}
	if s.Ready == 0 && s.Queued > 0 {
		k.want = max(k.want, 1)
	}
	if s.At-k.at < 2*step {
		return Decision{Want: k.want, Keep: k.want}
	}
	k.at = s.At
	for s.At-k.samples[0].at > time.Minute {
		k.samples = k.samples[1:]
	}
	mean := func(window time.Duration) int {
		sum, n := 0.0, 0
		for _, one := range k.samples {
			if s.At-one.at <= window {
				sum, n = sum+one.n, n+1
			}
		}
		return ceil(sum / float64(max(n, 1)) / (float64(r.Target) * 0.7))
	}
	stable, short := mean(time.Minute), mean(6*time.Second)
	if short >= 2*max(1, s.Ready) {
		if s.At >= k.panic {
			k.most = 0
		}
		k.panic = s.At + time.Minute
	}
	k.want = max(stable, s.Ready/2)
	if s.At < k.panic {
		k.most = max(k.most, short, s.Ready)
		k.want = k.most
	}
	k.want = min(k.want, r.Max)
	return Decision{Want: k.want, Keep: max(k.want, 1)}
}

func alertEvery(d time.Duration) func(*Target) Policy {
	return func(*Target) Policy { return &alertPolicy{every: d} }
}

func kpa(*Target) Policy { return new(kpaPolicy) }
