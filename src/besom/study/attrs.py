"""Names of what a study and its trials remember: user attributes of Optuna's; and a tag of MLflow's."""

# of a study: what it is, for good
ID = "besom.id"  # in the folder of its trials too
FOLDER = "besom.folder"
SPACE = "besom.space"
PARENT_RUN = "besom.run"  # in MLflow

FINGERPRINT = "besom.fingerprint"  # of its fixed settings
COMMIT = "besom.commit"  # of the code that its last session was started from
CHANGES = "besom.changes"  # of its settings, data or code, between two sessions: after how many trials, and what

# of its last sweep
N_TRIALS = "besom.n_trials"
DEADLINE = "besom.deadline"
TRACKING = "besom.tracking_uri"
EXPERIMENT = "besom.experiment"
COMMAND = "besom.command"
FIXED = "besom.fixed"  # what it does not search
QUESTION = "besom.question"  # what it is to find out, in words
PROGRAM = "besom.program"  # the app, as a user would start it
SLOTS = "besom.slots"  # how many trials at a time
SUPERVISOR = "besom.supervisor"
LEASE_S = "besom.lease_s"  # seconds without a beat after which a holder is taken for dead; None: for ever
OPENED = "besom.opened"  # by its supervisor, for trials to begin
STOP = "besom.stop"
PREPARED = "besom.prepared"  # by its app before its first trial, for all of them: overrides, why, and of which data
FOUND = "besom.found"  # the facts of other data than the study began with
PREPARER = "besom.preparer"  # who asks the app just now

# of a trial
RUN = "besom.run"  # in MLflow
LEASE = "besom.lease"
BEAT = "besom.beat"
ENDS = "besom.ends"  # of its attempts
KIND = "besom.kind"  # of its failure
REASON = "besom.reason"
OVERRIDES = "besom.overrides"
FORKED = "besom.forked"  # of one that a fork has adopted: the study and the number it comes from

# of a trial's run in MLflow, a tag
TRIAL = "besom.trial"  # its number
