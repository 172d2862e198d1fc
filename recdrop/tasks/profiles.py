"""What a profile fixes, by its name; not every task has every profile."""


def settings(profiles: dict[str, dict], profile: str, label: str) -> dict:
    """A copy of the settings that ``profile`` names.

    Raises:
        ValueError: the task called ``label`` has no such profile.

    >>> settings({"quick": {"hidden": 32}}, "reduced", "Temporal Order")
    Traceback (most recent call last):
    ...
    ValueError: Temporal Order has no profile 'reduced'; choose from ['quick']
    """
    if profile not in profiles:
        raise ValueError(f"{label} has no profile {profile!r}; choose from {list(profiles)}")
    return dict(profiles[profile])
