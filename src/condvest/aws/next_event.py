"""The fetcher's "next": an EventBridge event that says that bars have landed."""

from __future__ import annotations

import json
from typing import Any, Final

from condvest.config import Settings
from condvest.errors import TransientError
from condvest.log import event

SOURCE: Final = "condvest.fetcher"
DETAIL_TYPE: Final = "Bars Fetched"


def tell_next(settings: Settings, detail: dict[str, Any]) -> None:
    """Put the event on EVENT_BUS_NAME; without that setting nobody is told. TransientError when it cannot be put.

    `detail`: `run_id`, `sessions` and `rows` that came, `first_session` and `last_session` (dates or null), and
    `orchestrated`: whether a state machine goes on by itself. docs/aws.md has the whole event.
    """
    if settings.event_bus_name is None:
        return
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    entry = {
        "EventBusName": settings.event_bus_name,
        "Source": SOURCE,
        "DetailType": DETAIL_TYPE,
        "Detail": json.dumps(detail),
    }
    try:
        client = boto3.client("events", region_name=settings.aws_region, endpoint_url=settings.aws_endpoint_url)
        answer = client.put_events(Entries=[entry])
    except (BotoCoreError, ClientError) as error:
        raise TransientError(f"EventBridge did not take the event ({type(error).__name__}); the bars landed") from None
    if answer.get("FailedEntryCount"):
        code = answer["Entries"][0].get("ErrorCode")
        raise TransientError(f"EventBridge did not take the event ({code}); the bars landed")
    event("next_told", bus=settings.event_bus_name, sessions=detail["sessions"])
