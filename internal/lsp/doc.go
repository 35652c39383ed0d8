// Package lsp is a small language server for models, reactions and configurations: it underlines what `stagewire check` finds while
// one types, completes keys, kinds, fields, functions and stages, and shows what they mean.
//
// It speaks the Language Server Protocol 3.17 over one pair of streams: JSON-RPC 2.0 in frames with a Content-Length, whole texts on
// every change, positions in UTF-16 units. Of the protocol it does initialize, shutdown, exit, the four notifications of open
// documents, completion and hover; a request it does not know is answered so.
//
// # Design
//
// The libraries for this protocol bring all of it, and loggers and event loops with it. The part above is a few hundred lines, all of
// them about our files, so it is written out.
//
// One goroutine reads frames, one answers them in order. A text that changed is checked once no message waits, so quick typing is
// checked once. Frames, the number of open documents and the length of each are bounded.
//
// What keys there are comes from the JSON Schemas ([Schemas]), what they mean from their descriptions; what conditions can say from
// package expression. Where one stands is found by the indentation of the lines above and the braces of the line itself, because a
// text that is being typed is seldom good YAML.
package lsp
