"""The levels and sieves that the settings ask for, in the order in which a record meets them."""

from collections.abc import Iterable

from fapilog.errors import ConfigurationError
from fapilog.processors.deduplicate import Deduplicate
from fapilog.processors.filter import Filter, Rule
from fapilog.processors.levels import Levels
from fapilog.processors.sample import Sample
from fapilog.processors.sieve import Sieve
from fapilog.processors.throttle import Throttle
from fapilog.settings import LoggingSettings
from fapilog.types import LEVELS, TRACE


def sieves_of(settings: LoggingSettings) -> list[Sieve]:
    """Return what leaves records out by the settings: by rule, by share, by repetition, by rate.

    Raises:
        ConfigurationError: A rule or a pattern cannot be used.
    """
    sieves: list[Sieve] = []
    if settings.filter_drop or settings.filter_keep:
        for name in ("filter_drop", "filter_keep"):  # so that an error says which of them it is about
            _check(name, getattr(settings, name))
        sieves.append(Filter(settings.filter_drop, keep=settings.filter_keep, errors=settings.filter_errors))
    if settings.sampling_rate < 1 or settings.sampling_levels or settings.sampling_adaptive:
        sieves.append(
            Sample(
                settings.sampling_rate,
                by=settings.sampling_by,
                levels=settings.sampling_levels,
                errors=settings.sampling_errors,
                adaptive=settings.sampling_adaptive,
            )
        )
    if settings.dedupe_window_seconds is not None:
        sieves.append(
            Deduplicate(
                settings.dedupe_window_seconds,
                key=settings.dedupe_fields,
                errors=settings.dedupe_errors,
                max_keys=settings.dedupe_max_cache_size,
            )
        )
    if settings.throttle_max_rate is not None:
        sieves.append(
            Throttle(
                settings.throttle_max_rate,
                window_seconds=settings.throttle_window_seconds,
                key=settings.throttle_key_field,
                burst=settings.throttle_burst,
                errors=settings.throttle_errors,
                max_keys=settings.throttle_max_keys,
            )
        )
    return sieves


def logger_levels(settings: LoggingSettings, *, floor: int = TRACE) -> Levels:
    """Return the level of each logger by the settings; what is below *floor* is wanted nowhere.

    Raises:
        ConfigurationError: One of them is not the name of a logger.
    """
    return Levels(
        LEVELS[settings.level],
        {name: LEVELS[level] for name, level in settings.levels.items()},
        floor=floor,
        held=None if settings.tail_level is None else LEVELS[settings.tail_level],
    )


def _check(name: str, rules: Iterable[Rule]) -> None:
    try:
        Filter(rules)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None
