package local

// MakeRoot is for tests that cut the power.
var MakeRoot = makeRoot
