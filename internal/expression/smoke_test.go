package expression

import "testing"

func TestLibraryExamplesCompile(t *testing.T) {
	for _, f := range Functions() {
		if _, problems := Compile(f.Example, &Env{}); problems != nil {
			t.Errorf("%s: %s: %+v", f.Name, f.Example, problems)
		}
	}
}
