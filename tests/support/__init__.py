"""What tests share: a real Postgres, a real receiver, the service inside the test's process or in its own."""
