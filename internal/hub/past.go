package hub

// Past is what a customer's decisions were taken from, as it became known: for explaining past ones.
type Past struct {
	Events      []KnownEvent // every version that was applied, in the order of applying
	Transitions []Transition // in the order in which they were decided
	Merges      []Merge      // likewise
}

// KnownEvent is one version of an event and when it became known: at the sequence KnownFrom of CustomerID, whoever she is now.
type KnownEvent struct {
	Event
	CustomerID string
	KnownFrom  int64
}
