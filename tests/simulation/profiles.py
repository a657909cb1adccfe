"""What runs are made of: how much happens in them, of which kinds, and the settings of their processes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from webhook_grpc.settings import Settings

PROBE_SECONDS_MIN: Final = 5.0
_BREAKER_FAILURES: Final = 10


@dataclass(frozen=True, slots=True)
class Profile:
    """What a run is made of."""

    name: str
    activity_seconds: float = 90.0
    processes: tuple[int, int] = (1, 3)
    crashes: float = 0.0  # weights of what happens
    freezes: float = 0.0
    weather: float = 0.0
    stops: float = 0.0
    changes: float = 1.0
    asks: float = 2.0  # for retries, cancellations, tests and replays
    sender_faults: float = 0.0
    poison: int = 0
    prompt: bool = False  # whether lateness is checked: then nothing but the receivers may cause it
    long: bool = False
    behaviours: tuple[str, ...] = ("well", "slow", "flaky", "down", "hang", "overloaded", "busy", "gone", "outage")

    @property
    def is_calm(self) -> bool:
        """Whether nothing may be sent twice."""
        return not (self.crashes or self.freezes or self.weather or self.poison)


PROFILES: Final = (
    Profile(
        "prompt", processes=(1, 1), changes=0.0, prompt=True, behaviours=("well", "slow", "flaky", "hang", "limited")
    ),
    Profile("calm", stops=0.6),
    Profile("calm", stops=0.3, sender_faults=0.01),
    Profile("crashes", crashes=1.0, stops=0.5, sender_faults=0.02),
    Profile("freezes", freezes=1.0, stops=0.2),
    Profile("weather", weather=1.5, stops=0.2),
    Profile("chaos", crashes=0.5, freezes=0.5, weather=1.0, stops=0.5, sender_faults=0.01),
    Profile("chaos", crashes=0.5, freezes=0.5, weather=1.0, stops=0.5),
    Profile("poison", poison=1, crashes=0.1, sender_faults=0.02, behaviours=("well", "slow", "flaky", "limited")),
    Profile("long", activity_seconds=86_400.0, crashes=0.3, weather=0.3, stops=0.3, long=True),
)


def settings_of(profile: Profile, seeded: random.Random) -> Settings:
    """The settings of all processes of a run: short times, and limits narrow enough to be met."""
    choose, long = seeded.choice, profile.long
    delays = ((1.0, 2.0, 4.0, 8.0, 15.0, 30.0), (0.5, 5.0, 20.0), (2.0,) * 8)
    return Settings(
        retry_delays_seconds=(5.0, 60.0, 600.0, 3600.0, 7200.0) if long else choose(delays),
        overload_delay_seconds_min=60.0 if long else 3.0,
        attempt_timeout_seconds=choose((3.0, 10.0)),
        breaker_failures=1000 if profile.prompt else _BREAKER_FAILURES,
        breaker_window_attempts_min=1000 if profile.prompt else 20,
        breaker_probe_seconds_min=PROBE_SECONDS_MIN,
        breaker_probe_seconds_max=600.0 if long else 40.0,
        throttle_seconds=30.0,
        disable_after_seconds=20_000.0 if long else 120.0,
        disable_failures_min=5,
        customer_in_flight_max=200 if profile.prompt else choose((8, 200)),
        host_in_flight_max=500 if profile.prompt else choose((4, 50)),
        host_share_per_customer=1.0 if profile.prompt else 0.8,
        process_in_flight_max=200 if profile.prompt else choose((20, 200)),
        lease_seconds=60.0 if long else choose((3.0, 4.0, 8.0)),
        poll_seconds=10.0 if long else choose((0.5, 1.0, 2.0)),
        replay_poll_seconds=60.0 if long else 1.0,
        lane_prefetch_max=100 if profile.prompt else choose((4, 20, 100)),
        prefetch_bytes_max=64_000_000 if profile.prompt else 1_000_000,
        drain_seconds=40.0 if profile.is_calm else choose((0.5, 40.0)),
        database_timeout_seconds=choose((1.0, 3.0, 10.0)),
    )
