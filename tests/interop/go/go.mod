module killick/tests/interop

go 1.25.0

require (
	github.com/fxamacker/cbor/v2 v2.9.0
	github.com/transparency-dev/formats v0.1.1
	github.com/transparency-dev/merkle v0.0.2
	github.com/veraison/go-cose v1.3.0
	golang.org/x/mod v0.38.0
)

require github.com/x448/float16 v0.8.4 // indirect
