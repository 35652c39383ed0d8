package score

import (
	"math"
	"slices"
)

// MinRanked is how many customers it takes to tell fifths of them.
const MinRanked = 50

// Fifths are the four values between the fifths of a population, ascending; nil where there are too few to tell.
type Fifths []float64

// fifthsOf returns the boundaries within values, which it sorts: the greatest value of each of the lower four fifths.
func fifthsOf(values []float64) Fifths {
	if len(values) < MinRanked {
		return nil
	}
	slices.Sort(values)
	out := make(Fifths, 4)
	for i := range out {
		out[i] = values[int(math.Ceil(float64(len(values)*(i+1))/5))-1]
	}
	return out
}

// Of returns the fifth that v is in, 1 to 5, and false where that is not known. Equal values are in the same fifth, the
// lowest that any of them reaches; so where many are equal, some fifths are empty.
func (f Fifths) Of(v float64) (int, bool) {
	if len(f) != 4 {
		return 0, false
	}
	n := 1
	for _, boundary := range f {
		if v > boundary {
			n++
		}
	}
	return n, true
}
