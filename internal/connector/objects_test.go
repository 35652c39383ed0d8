package connector

import "testing"

// Maps that came back are empty, nobody has one together with somebody else, and a huge body leaves few of them behind.
func TestObjectsAreLentToOne(t *testing.T) {
	o := new(objects)
	for round, n := range []int{1, 3 * maxShelf, 5} {
		for _, size := range []int{1, smallObject, smallObject + 1, largeObject, largeObject + 1} {
			lent := make([]map[string]any, n)
			for i := range lent {
				lent[i] = o.make(size)
				if len(lent[i]) != 0 {
					t.Fatalf("round %d: an object for %d entries holds %v", round, size, lent[i])
				}
				lent[i]["self"] = i
			}
			for i := range lent {
				if lent[i]["self"] != i {
					t.Fatalf("round %d: two of %d objects for %d entries are one", round, n, size)
				}
			}
		}
		o.small.back()
		o.large.back()
		if len(o.small.maps) > maxShelf || len(o.large.maps) > maxShelf {
			t.Errorf("%d and %d maps are kept", len(o.small.maps), len(o.large.maps))
		}
	}
	if len(o.small.maps) != maxShelf || len(o.large.maps) != maxShelf {
		t.Errorf("%d and %d maps are there to be lent again", len(o.small.maps), len(o.large.maps))
	}
}
