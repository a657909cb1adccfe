import os
import tests.simulation.test_store_model as t
from hypothesis import settings, Phase
t.SETTINGS = settings(t.SETTINGS, max_examples=int(os.environ.get("N","15")), phases=[Phase.generate])
from tests.simulation.test_store_model import test_the_store_does_what_its_model_says
