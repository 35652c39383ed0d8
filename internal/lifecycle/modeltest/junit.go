package modeltest

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// Suite is one group of tests in a JUnit report: those of a model.
type Suite struct {
	Name, File string
	Cases      []Case
}

// Case is one test. Failures are what it found, one text each; empty for one that passed.
type Case struct {
	Name     string
	Line     int // in the suite's file; 0 where it has none
	Failures []string
	Took     time.Duration
}

// The elements and attributes that build servers agree on:
// https://github.com/testmoapp/junitxml (read 2026-08).
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		File     string      `xml:"file,attr,omitempty"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr,omitempty"`
		Line    int           `xml:"line,attr,omitempty"`
		Time    string        `xml:"time,attr"`
		Failure *junitFailure `xml:"failure"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes suites as JUnit XML, one testsuite each. Characters that XML cannot hold are replaced.
func WriteJUnit(w io.Writer, suites []Suite) error {
	all := junitSuites{Name: "stagewire"}
	var total time.Duration
	for _, s := range suites {
		suite := junitSuite{Name: s.Name, File: s.File, Tests: len(s.Cases)}
		var took time.Duration
		for _, c := range s.Cases {
			out := junitCase{Name: c.Name, Class: s.Name, File: s.File, Line: c.Line, Time: seconds(c.Took)}
			if len(c.Failures) > 0 {
				first, _, _ := strings.Cut(c.Failures[0], "\n")
				text := strings.Join(c.Failures, "\n")
				if s.File != "" && c.Line > 0 {
					text = fmt.Sprintf("%s:%d\n%s", s.File, c.Line, text)
				}
				out.Failure = &junitFailure{Message: first, Type: "expectation", Text: text}
				suite.Failures++
			}
			suite.Cases = append(suite.Cases, out)
			took += c.Took
		}
		suite.Time = seconds(took)
		all.Tests, all.Failures = all.Tests+suite.Tests, all.Failures+suite.Failures
		all.Suites = append(all.Suites, suite)
		total += took
	}
	all.Time = seconds(total)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
