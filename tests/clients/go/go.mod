module example.com/programs

go 1.24.0

require (
	github.com/webhook-grpc/webhook-grpc/clients/go v0.1.0
	github.com/webhook-grpc/webhook-grpc/generated/go v0.1.0
)

replace (
	github.com/webhook-grpc/webhook-grpc/clients/go => ../../../clients/go
	github.com/webhook-grpc/webhook-grpc/generated/go => ../../../generated/go
)
