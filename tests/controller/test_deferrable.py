import pytest

from shoal.controller.deferrable import LONG_LOAD, least_wait, may_wait, passes, proven_by
from shoal.controller.status import DeclaredStatus, ServiceAddresses, status_of
from shoal.core.types import ModelState, RevisionId, Transition
from support.controller import endpoint_view, load_failure, model_view, rollout_status

ADDRESSES = ServiceAddresses("grpc://modelmesh-serving.ns:8033", "http://modelmesh-serving.ns:8008")
NOW = 1_700_000_000.0
ONE, TWO = "m__isvc-1", "m__isvc-2"


def _status(view, old=None, rollout=None, now=NOW):
    return status_of(DeclaredStatus(3, RevisionId(ONE)), view, ADDRESSES, old or {}, now, rollout)


def _in(state, old=None, **more):
    return _status(endpoint_view(model_view(ONE, state, **more)), old, now=NOW + 60 if old else NOW)


LOADED = _in(ModelState.LOADED, copies=1)
STANDBY = _in(ModelState.STANDBY, LOADED)


def test_that_a_model_comes_and_goes_may_wait():
    assert may_wait(LOADED, STANDBY, ONE)
    assert may_wait(STANDBY, _in(ModelState.LOADED, STANDBY, copies=1), ONE)
    assert may_wait(STANDBY, _in(ModelState.LOADING, STANDBY), ONE)
    assert may_wait(LOADED, _in(ModelState.LOADED, LOADED, copies=2), ONE)


def test_the_first_load_of_a_revision_is_told_at_once():
    assert not may_wait(STANDBY, _in(ModelState.LOADED, STANDBY, copies=1), "")
    assert not may_wait(STANDBY, _in(ModelState.LOADED, STANDBY, copies=1), TWO)
    assert not may_wait({}, LOADED, "")


def test_what_went_wrong_and_that_it_ended_is_told_at_once():
    failed = _in(ModelState.FAILED_TO_LOAD, STANDBY, failure=load_failure())
    assert not may_wait(STANDBY, failed, ONE)
    assert not may_wait(failed, _in(ModelState.LOADED, failed, copies=1), ONE)
    assert not may_wait(LOADED, _in(ModelState.LOADED, LOADED, copies=1, failure=load_failure()), ONE)


def test_changes_of_what_is_declared_and_rollouts_are_told_at_once():
    active, target = model_view(ONE, ModelState.LOADED, copies=1), model_view(TWO, ModelState.LOADING)
    assert not may_wait(LOADED, _status(endpoint_view(active, target), LOADED), ONE)
    assert not may_wait(STANDBY, _status(endpoint_view(active), STANDBY, rollout_status()), ONE)
    assert not may_wait(STANDBY, LOADED | {"observedGeneration": 4}, ONE)


def test_a_load_is_shown_once_it_lasts_and_then_its_end_at_once():
    loading = _in(ModelState.LOADING, STANDBY)
    assert least_wait(loading) == LONG_LOAD
    assert least_wait(STANDBY) == 0
    assert not may_wait(loading, _in(ModelState.LOADED, loading, copies=1), ONE)


def test_of_an_endpoint_whose_model_comes_and_goes_there_is_nothing_else_to_say():
    standby = model_view(ONE, ModelState.STANDBY)
    assert passes(endpoint_view(standby), ONE)
    assert passes(endpoint_view(model_view(ONE, ModelState.LOADING)), ONE)
    assert not passes(endpoint_view(standby), "")
    assert not passes(endpoint_view(standby, model_view(TWO, ModelState.LOADING)), ONE)
    assert not passes(endpoint_view(standby, None, Transition.BLOCKED_BY_FAILED_LOAD), ONE)
    assert not passes(endpoint_view(model_view(ONE, ModelState.LOADED, copies=1, failure=load_failure())), ONE)
    assert not passes(endpoint_view(model_view(ONE, ModelState.PENDING)), ONE)


@pytest.mark.parametrize(("status", "revision"), [(LOADED, ONE), (STANDBY, ""), ({}, "")])
def test_a_status_that_shows_a_revision_as_loaded_proves_that_it_loads(status, revision):
    assert proven_by(status) == revision
