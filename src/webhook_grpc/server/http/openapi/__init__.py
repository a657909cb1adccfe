"""The OpenAPI document: what the HTTP door takes and answers, made from the descriptors and comments of the protos."""
