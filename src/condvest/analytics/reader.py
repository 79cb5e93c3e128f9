"""The reading API: bars of any period, adjusted as known at any time, and SQL over the whole lake."""

from __future__ import annotations

import difflib
from calendar import monthrange
from collections.abc import Sequence
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.analytics import landed
from condvest.analytics.basis import CorporateActions
from condvest.analytics.periods import Anchor, Wanted, between, check_bounds, parse_interval, period_bars
