"""The names that tools and people give to columns, by role."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterable, Sequence
from functools import lru_cache

# Usual names by role, the most specific first; case, spaces and punctuation do not matter.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "slate": (
        "slate", "slate_id", "situation", "choice_id", "choiceid", "chid", "obs_id", "obsid", "obs",
        "choice_situation", "choice_set", "comparison", "comparison_id", "question_id", "question", "task",
        "task_id", "trial", "case", "set", "group_id", "qes", "game_id", "game", "match_id", "match",
        "battle_id", "pair_id", "contest",
    ),
    "pick": (
        "picked", "chosen", "pick", "choice", "selected", "winner", "preference", "preferred", "is_chosen",
        "label", "best", "vote", "answer", "better", "verdict", "human_preference", "outcome", "result",
        "best_index", "best_id", "chosen_index", "is_best", "selection", "judgment", "judgement", "purchased",
        "clicked", "bought", "booked", "buy", "click", "ordered", "converted", "response",
        "most", "selected_option", "chosen_option", "picked_option", "preferred_option",
        "selected_alternative", "chosen_alternative", "chosen_alt", "chosen_idx", "best_idx",
        "selected_index", "selected_idx",
        "picked_index", "preferred_index", "winner_index", "winner_idx", "choice_index", "chosen_id",
        "selected_id", "winner_id", "best_model", "winning_model", "preferred_model", "which_better",
        "decision", "better_response_id", "best_response_id", "preferred_response_id", "chosen_response_id",
        "is_winner", "is_preferred", "is_selected", "is_picked", "won", "labels", "depvar", "kept", "is_kept",
        "retained",
    ),
    "rank": ("rank", "ranking", "ranks", "rankings", "place_rank"),
    "rating": ("rating", "ratings", "stars", "likert", "grade"),
    "worst": ("worst", "least"),
    "count": ("count", "n", "freq", "frequency", "times", "votes"),
    "chooser": (
        "chooser", "chooser_id", "user_id", "user", "person", "person_id", "respondent", "respondent_id",
        "resp_id", "resp", "annotator", "annotator_id", "rater", "rater_id", "worker", "worker_id",
        "household", "judge", "judge_id", "pid", "participant", "participant_id", "participant_code",
        "subject", "subject_id", "evaluator", "labeler", "labeller", "voter", "response_id", "prolific_pid",
        "session_id", "ip", "users", "panelist", "panellist", "panelist_id", "consumer",
    ),
    "item": (
        "item", "item_id", "alt", "alternative", "candidate", "option", "model", "name", "brand", "product",
        "generator", "system", "model_name", "alt_id", "player", "team", "competitor",
    ),
    "position": ("slot", "position", "pos", "place", "alt", "alternative", "rollout_index", "sample_idx"),
    "context": (
        "context", "prompt", "input_prompt", "instruction", "problem", "question", "query", "prompt_idx",
        "prompt_id", "ng_task_index", "task_index", "task", "task_id", "input", "caption", "messages",
        "conversation", "content", "responses_create_params", "prompts", "user_prompt", "context_id",
        "problem_id", "uid", "group_uid", "conversations", "dialogue", "chat",
    ),
    "round": ("round", "iteration", "step", "epoch", "global_step", "iter", "round_number", "train_step",
        "training_step", "steps", "epochs", "rounds", "global_steps", "checkpoint", "ckpt", "iter_num",
        "update", "cycle", "generation"),
    "time": ("time", "timestamp", "date", "created_at", "tstamp", "datetime"),
}  # fmt: skip

# Names of slates that columns of flags and scores have, too: an exact match, whether a set or case passed.
FLAGS_TOO = ("match", "game", "contest", "battle", "case", "set", "trial", "task", "question", "comparison")
# What a sample's text is called; such a column is neither a context nor a feature.
SAMPLES = (
    "completion", "response", "output", "output_response", "text", "generation", "model_completion",
    "answer", "responses", "completions", "outputs", "generations", "all_generated_responses",
)  # fmt: skip
REWARDS = (
    "reward", "rewards", "score", "scores", "rm_score", "rm_scores", "all_rm_scores", "reward_score",
    "overall_score", "total_reward", "mean_reward",
)  # fmt: skip
# Numbers that describe the training, not the candidate.
TECHNICAL = re.compile(
    r"(advantage|log_?prob|logp|_?ids?$|idx|index|uid|uuid|seed|mask|token|length|propensity|weight|loss|"
    r"time|cost|price|hash|version|^row)",
    re.I,
)
ENDS = re.compile(r"(^|[_. ])(reward|score|rm)s?$|[a-z]Reward$")
SUMMARY = re.compile(
    r"[_.](std|stdev|stddev|var|variance|sem|se|min|max|baseline|model|fn|func|type|name|margin)$", re.I
)
# Names of picks even where a file holds rewards and no slates; other names are then part of the task.
SURE_PICKS = (
    "picked", "chosen", "pick", "selected", "ischosen", "ispicked", "isselected", "isbest", "choice",
    "winner", "kept", "iskept", "retained",
)  # fmt: skip
CHOSEN = (
    ("chosen", "rejected"), ("winner", "loser"), ("preferred", "dispreferred"), ("accepted", "rejected"),
    ("better", "worse"), ("win", "lose"), ("preferred", "rejected"), ("positive", "negative"),
)  # fmt: skip
SIDES = (
    ("left", "right"), ("a", "b"), ("first", "second"), ("model_a", "model_b"), ("player1", "player2"),
    ("item1", "item2"), ("option_a", "option_b"), ("home", "away"), ("white", "black"),
    ("home_team", "away_team"), ("hometeam", "awayteam"), ("player_a", "player_b"),
)  # fmt: skip
AVAILABLE = ("av", "avail", "available", "availability")
ITEM_STEMS = (
    "item", "model", "alternative", "name", "option", "candidate", "generator", "system", "brand", "product",
    "player", "team", "",
)  # fmt: skip


@lru_cache(1 << 16)
def key(name: str) -> str:
    """Return a name without case, spaces and punctuation.

    >>> key("participant.code"), key("respID"), key("_ng_task_index")
    ('participantcode', 'respid', 'ngtaskindex')
    """
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name).lower())


def keys_of(name: str) -> tuple[str, ...]:
    """Return the keys under which a name is known: its own, and that of its last part between dots."""
    return (key(name), key(name.rpartition(".")[2])) if "." in name else (key(name),)


def named(names: Sequence[str], role: str, taken: Container[str] = ()) -> list[str]:
    """Return the columns whose names are usual for a role, the most specific name first."""
    found = []
    for word in SYNONYMS[role]:
        for name in names:
            if name not in taken and name not in found and key(word) in keys_of(name):
                found.append(name)
    return found


def is_sample(name: str) -> bool:
    """Return whether a name is usual for the candidates themselves."""
    return any(key(word) in keys_of(name) for word in SAMPLES)


def reward_names(names: Iterable[str]) -> list[str]:
    """Return the names of rewards: ``reward`` and ``reward_...``, else ``score``, else ``..._reward``."""
    known = [n for n in names if (ENDS.search(n) or not TECHNICAL.search(n)) and not SUMMARY.search(n)]
    own = [n for n in known if n.lower() == "reward" or n.lower().startswith("reward_")]
    if own:
        return own
    for word in REWARDS:
        found = [n for n in known if key(n) == key(word)]
        if found:
            return found[:1]
    return [n for n in known if ENDS.search(n)]


def listed(names: Sequence[str], width: int = 300) -> str:
    """Return names as one line of about ``width`` characters; what does not fit is counted.

    >>> listed(["slate", "picked", "reward"], 14)
    'slate, picked and 1 more'
    """
    shown, used = 0, 0
    while shown < len(names) and (shown == 0 or used + len(names[shown]) <= width):
        used += len(names[shown]) + 2
        shown += 1
    text = ", ".join(" ".join(n.split())[:width] for n in names[:shown])
    return text if shown == len(names) else f"{text} and {len(names) - shown} more"
