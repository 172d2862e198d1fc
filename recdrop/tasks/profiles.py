"""What a profile fixes, by its name; not every task has every profile."""

Profile = str | dict
"""A name, or the settings themselves, as a manifest keeps them."""


def settings(profiles: dict[str, dict], profile: Profile, label: str) -> dict:
    """A copy of the settings that ``profile`` names, or is.

    Raises:
        ValueError: the task called ``label`` has no such profile.

    >>> settings({"quick": {"hidden": 32}}, "reduced", "Temporal Order")
    Traceback (most recent call last):
    ...
    ValueError: Temporal Order has no profile 'reduced'; choose from ['quick']
    """
    if isinstance(profile, dict):
        return dict(profile)
    if profile not in profiles:
        raise ValueError(f"{label} has no profile {profile!r}; choose from {list(profiles)}")
    return dict(profiles[profile])
