# Every public name, once: type checkers read this file, and the package loads names by it on first use.
from recurate.choices import (
    Choices as Choices,
)
from recurate.choices import (
    NoEstimate as NoEstimate,
)
from recurate.choices import (
    conditional_logit as conditional_logit,
)
from recurate.choices import (
    item_rewards as item_rewards,
)
from recurate.choices import (
    latent_classes as latent_classes,
)
from recurate.choices.checks.score_tests import Check as Check
from recurate.choices.checks.verdict import Verdict as Verdict
from recurate.choices.models.items import ItemFit as ItemFit
from recurate.choices.models.latent_classes import ClassFit as ClassFit
from recurate.choices.models.logit import LogitFit as LogitFit
from recurate.choices.models.recovery import Recovered as Recovered
from recurate.core.citations import citation as citation
from recurate.core.errors import InputError as InputError
from recurate.core.errors import RecurateError as RecurateError
from recurate.core.errors import Stopped as Stopped
from recurate.core.errors import Waiting as Waiting
from recurate.log.candidates import Candidates as Candidates
from recurate.log.candidates import as_candidates as as_candidates
from recurate.log.logger import PickLogger as PickLogger
from recurate.log.schema import Log as Log
from recurate.log.schema import read_log as read_log
from recurate.log.schema import write_log as write_log
from recurate.log.trajectory import Row as Row
from recurate.log.trajectory import Trajectory as Trajectory
from recurate.log.watch import watch as watch
from recurate.loop.config import Config as Config
from recurate.loop.config import read_config as read_config
from recurate.loop.run_folder import RunFolder as RunFolder
from recurate.report.sections import Section as Section
from recurate.rules.noise import (
    GAUSSIAN as GAUSSIAN,
)
from recurate.rules.noise import (
    GUMBEL as GUMBEL,
)
from recurate.rules.noise import (
    NO_NOISE as NO_NOISE,
)
from recurate.rules.noise import (
    Noise as Noise,
)
from recurate.rules.pools import Threshold as Threshold
from recurate.rules.pools import TopFraction as TopFraction
from recurate.rules.rule import Rule as Rule
from recurate.theory.attribution import Change as Change
from recurate.theory.bounds import Bound as Bound
from recurate.theory.bounds import check_bounds as check_bounds
from recurate.theory.extinction import Extinction as Extinction
from recurate.theory.limits import Limit as Limit
from recurate.theory.limits import attractors as attractors
from recurate.theory.limits import limit as limit
from recurate.theory.population import Population as Population
from recurate.theory.setting import Setting as Setting
from recurate.theory.setting import Stage as Stage
from recurate.theory.survival import Survival as Survival
from recurate.theory.survival import survival as survival
from recurate.theory.welfare import Welfare as Welfare
from recurate.theory.welfare import welfare as welfare
from recurate.verbs.audit.audit import Audit as Audit
from recurate.verbs.audit.declared import Declared as Declared
from recurate.verbs.audit.declared import read_declared as read_declared
from recurate.verbs.audit.findings import Finding as Finding
from recurate.verbs.audit.python import audit as audit
from recurate.verbs.compare.compare import Comparison as Comparison
from recurate.verbs.compare.python import compare as compare
from recurate.verbs.fit.fit import Fit as Fit
from recurate.verbs.fit.python import fit as fit
from recurate.verbs.forecast.python import forecast as forecast
from recurate.verbs.plan.ends import Ends as Ends
from recurate.verbs.plan.evaluation import Choice as Choice
from recurate.verbs.plan.evaluation import Outcome as Outcome
from recurate.verbs.plan.python import plan as plan
from recurate.verbs.reproduce.python import reproduce as reproduce
from recurate.verbs.reproduce.reproduce import Reproduction as Reproduction
from recurate.verbs.result import Result as Result
from recurate.verbs.run.python import read_run as read_run
from recurate.verbs.run.python import run as run
from recurate.verbs.run.report import Run as Run

__version__: str
